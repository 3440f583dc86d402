"""Attempts are counted, and what they need is there until none can follow."""

from pathlib import Path

import pytest

from dml_bench.results.attempts import begin_attempt, end_attempts


class KilledError(Exception):
    pass


def test_an_attempt_finds_the_checkpoints_of_earlier_ones_alone(tmp_path):
    assert begin_attempt(tmp_path) == 1
    for name in ("checkpoint-5-00.pt", ".checkpoint-9-00.pt.1.part", "embeddings.npz"):
        (tmp_path / name).touch()
    assert begin_attempt(tmp_path) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"attempts", "checkpoint-5-00.pt"}
    end_attempts(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_count_outlives_an_attempt_that_is_killed_while_it_begins(tmp_path, monkeypatch):
    assert [begin_attempt(tmp_path), begin_attempt(tmp_path)] == [1, 2]

    def killed(*_, **__):
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KilledError):
            begin_attempt(tmp_path)
    assert begin_attempt(tmp_path) == 3


@pytest.mark.parametrize("damaged", [b"\xb1\n", b"", b"-1", b"two"])
def test_a_damaged_count_begins_anew_and_costs_no_checkpoint(tmp_path, damaged):
    begin_attempt(tmp_path)
    (tmp_path / "checkpoint-5-00.pt").touch()
    (tmp_path / "attempts").write_bytes(damaged)
    assert begin_attempt(tmp_path) == 1
    assert (tmp_path / "checkpoint-5-00.pt").exists()
