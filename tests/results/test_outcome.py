import errno

import pytest
import torch

from dml_bench.errors import DiskFullError, DivergedError, DmlBenchError, TrainingError
from dml_bench.results.outcome import KINDS, choose_kinds, kind_of, naming_full_disk, reason_of


def too_much():
    try:
        torch.empty(2**62, dtype=torch.uint8)
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DivergedError("the loss is not finite"), "diverged"),
        (TrainingError("nothing to train"), "error"),
        (MemoryError(), "out of memory"),
        (too_much(), "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory"),
        (ValueError("odd"), "error"),
    ],
)
def test_reasons_begin_with_the_kind_of_failure(error, kind):
    assert reason_of(error).startswith(f"{kind}: {type(error).__name__}")
    assert kind_of(reason_of(error)) == kind


def test_kinds_are_chosen_by_name():
    assert choose_kinds("failed") == KINDS
    assert choose_kinds("diverged, timed-out") == ("diverged", "timed out")
    assert kind_of("ValueError: of an old record") == "error"
    with pytest.raises(DmlBenchError, match="--retry all: 'all' must be one of died, diverged, error, failed"):
        choose_kinds("all")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_found_behind_other_errors(number, tmp_path):
    with (
        pytest.raises(DiskFullError, match=r"/somewhere/x: the disk is full.*same command"),
        naming_full_disk(tmp_path),
    ):
        try:
            raise OSError(number, "no room", "/somewhere/x")
        except OSError as error:
            raise ValueError("cannot decode") from error
    with pytest.raises(DiskFullError, match=str(tmp_path)), naming_full_disk(tmp_path):
        raise RuntimeError("[enforce fail at inline_container.cc:672] PytorchStreamWriter failed writing file data/0")


def test_other_errors_pass(tmp_path):
    with pytest.raises(PermissionError), naming_full_disk(tmp_path):
        raise PermissionError(errno.EACCES, "no")
