"""Two ranks against one process: the same losses, weights and embeddings; and what becomes of a rank left alone."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from itertools import chain
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dml_bench import ranks
from dml_bench.evaluation.extract import extract
from dml_bench.training.listening import epoch_context

PROGRAM = Path(__file__).with_name("ranks_program.py")


def program():
    spec = spec_from_file_location("ranks_program", PROGRAM)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HERE = program()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment():
    keep = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    return {name: value for name, value in keep.items() if not name.startswith("TORCHELASTIC")}


@contextmanager
def started(folder, count, *more):
    """Processes of the program, which end with the block; what they say goes to ``rank-N.txt``."""
    port, processes = str(free_port()), []
    try:
        for rank in range(count):
            command = [sys.executable, str(PROGRAM), str(rank), str(count), port, str(folder), *more]
            with (folder / f"rank-{rank}.txt").open("w") as said:
                processes.append(subprocess.Popen(command, stderr=said, env=environment()))
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two ranks found."""
    folder = tmp_path_factory.mktemp("ranks")
    with started(folder, 2) as processes:
        codes = [process.wait(timeout=120) for process in processes]
    assert codes == [0, 0], "".join((folder / f"rank-{rank}.txt").read_text()[-3000:] for rank in range(2))
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=False) for rank in range(2)]


@given(st.integers(0, 50), st.integers(1, 9))
def test_shares_cover_the_batch_without_overlap(size, count):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "count", lambda: count)
        shares = [list(range(size))[ranks.share(size, rank)] for rank in range(count)]
    assert [*chain(*shares)] == list(range(size))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.integers(1, 100), st.integers(1, 20), st.integers(1, 5))
def test_blocks_stay_whole(size, block, count):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "count", lambda: count)
        own = [ranks.blocks(size, block, rank) for rank in range(count)]
    if -(-size // block) < count:
        assert own == [slice(0, size)] * count
    else:
        assert [*chain(*(list(range(size))[part] for part in own))] == list(range(size))
        assert all(part.start % block == 0 for part in own)


@pytest.mark.parametrize("case", HERE.FITS)
def test_two_ranks_train_as_one_process_does(two, small, case):
    alone = HERE.trained(small, case)
    first, second = (found["fits"][case] for found in two)
    assert len(alone["losses"]) >= 20
    assert max(alone["losses"]) - min(alone["losses"]) > 1e-5  # something is learned
    assert first["losses"] == pytest.approx(alone["losses"], rel=0, abs=1e-9)
    for part in ("model", "loss"):
        assert alone[part].keys() == first[part].keys()
        for name, value in alone[part].items():
            torch.testing.assert_close(first[part][name], value, rtol=0, atol=1e-9)
            assert torch.equal(first[part][name], second[part][name]), name  # bit by bit
    assert first["losses"] == second["losses"]


def test_ranks_drop_out_on_their_own_and_stay_identical(two, small):
    first, second = (found["dropout"] for found in two)
    assert first["losses"] == second["losses"]
    assert first["losses"] != pytest.approx(HERE.trained(small, "norm_softmax", HERE.DROPOUT)["losses"], rel=1e-3)
    for part in ("model", "loss"):
        assert all(torch.equal(value, second[part][name]) for name, value in first[part].items())


def test_batch_normalisation_sees_the_whole_batch(two):
    """Against torch's own on the whole batch."""
    parts = [found["norm"] for found in two]
    x = parts[0]["x"].requires_grad_()
    norm = nn.BatchNorm2d(3).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, -1.0]))
    result = norm(x)
    result.pow(3).sum().backward()
    torch.testing.assert_close(torch.cat([part["result"] for part in parts]), result.detach())
    torch.testing.assert_close(torch.cat([part["gradient"] for part in parts]), x.grad)
    torch.testing.assert_close(parts[0]["weight"], norm.weight.grad)
    for name, value in norm.state_dict().items():
        torch.testing.assert_close(parts[1]["state"][name], value)


def test_embeddings_are_those_of_one_process_bit_by_bit(two, small):
    model = small.model().float()
    context = epoch_context(model, small.train, seed=0, epoch=1, device=torch.device("cpu"))
    alone = [extract(model, small.train.images, batch_size=size) for size in (7, 40)] + [context.embed().numpy()]
    for found in two:
        for one, other in zip(alone, found["embedded"], strict=True):
            assert one.tobytes() == other.tobytes()


def test_ranks_agree_and_refuse_alike(two):
    assert [found["agreed"] for found in two] == [{"rank": 0}] * 2
    parts, batch, rest = two[0]["refused"]
    assert "training.chunk" in parts
    assert "batch_norm" in parts
    assert "draws batches of 1, which cannot be shared by 2 ranks" in batch
    assert "a batch of 1 images cannot be shared by 2 ranks" in rest
    assert two[0]["refused"] == two[1]["refused"]


def test_without_others_nothing_is_copied():
    rows = torch.zeros(3, 2)
    assert ranks.gathered(rows, 3) is rows
    assert ranks.summed(rows) is rows
    assert (ranks.here(), ranks.count(), ranks.agreed(lambda: 5)) == (0, 1, 5)


def test_a_killed_rank_ends_the_others_within_seconds(tmp_path):
    with started(tmp_path, 2, "dies") as processes:
        assert processes[1].wait(timeout=60) == -signal.SIGKILL
        assert processes[0].wait(timeout=20) in (0, -signal.SIGABRT)  # having said so, gloo may abort as it leaves
    seconds, _, said = (tmp_path / "heard.txt").read_text().partition(" ")
    assert float(seconds) < 10
    assert said.startswith("rank 0 lost another rank")
    assert "the same torchrun command goes on" in said
