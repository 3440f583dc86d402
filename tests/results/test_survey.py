import os

import pytest

from dml_bench.errors import ResultsError
from dml_bench.results.lease import Lease
from dml_bench.results.live import PAUSE, Live, read_live
from dml_bench.results.record import RunRecord
from dml_bench.results.store import publishing
from dml_bench.results.survey import survey, write_plan


def publish(folder, seed, status, reason=""):
    ids = {"recipe_name": "r", "recipe_id": "0123456789ab", "protocol_id": "p", "seed": seed, "dataset": "digits"}
    what = {"loss": "arcface", "backbone": "convnet", "embedding_dim": 8, "options": {"scale": 9}}
    record = RunRecord(**ids, **what, status=status, reason=reason)
    with publishing(folder, record.run_id) as work:
        record.write(work)


def step(epoch, step, loss=0.5):
    return {"event": "step", "epoch": epoch, "step": step, "steps": 10, "loss": loss, "images_per_second": 100.0}


def test_every_run_of_a_grid_is_told(tmp_path):
    publish(tmp_path, 0, "ok")
    publish(tmp_path, 1, "failed", "diverged: DivergedError: x")
    publish(tmp_path, 7, "ok")
    for seed in (2, 3, 4):
        (tmp_path / f".work-0123456789ab-s{seed}").mkdir()
    Live(tmp_path / ".work-0123456789ab-s2", 4).hear(step(2, 5))
    (tmp_path / ".lease-0123456789ab-s3-1").touch()
    os.utime(tmp_path / ".lease-0123456789ab-s3-1", (0, 0))
    write_plan(tmp_path, "odd/name", {f"0123456789ab-s{seed}": f"arcface seed {seed}" for seed in range(6)})
    with Lease(tmp_path, "0123456789ab-s2"):
        found = survey(tmp_path)
    states = ["done", "failed", "running", "stale", "waiting", "waiting", "done"]
    assert [run.state for run in found] == states
    assert [run.label for run in found] == [f"arcface seed {seed}" for seed in range(6)] + ["arcface scale=9 seed 7"]
    assert found[2].holder.process.pid == os.getpid()
    assert (found[2].live["epoch"], found[2].live["epochs"]) == (2, 4)


def test_a_run_being_repeated_is_running(tmp_path):
    publish(tmp_path, 0, "failed", "died: killed")
    with Lease(tmp_path, "0123456789ab-s0"):
        assert survey(tmp_path)[0].state == "running"


def test_folders_without_runs_are_errors(tmp_path):
    with pytest.raises(ResultsError, match="no run was planned or published"):
        survey(tmp_path)
    with pytest.raises(ResultsError, match="no such folder"):
        survey(tmp_path / "none")


def test_the_time_left_goes_by_the_pace_since_this_attempt_began(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    live = Live(tmp_path, 4)
    live.hear({"event": "phase", "phase": "train"})
    live.hear(step(3, 5))  # resumed: 2.5 of 4 epochs were there
    now += PAUSE / 2
    live.hear(step(3, 7))
    assert "epoch" not in read_live(tmp_path)  # at most once a second
    now += 5 - PAUSE / 2
    live.hear(step(3, 10))
    told = read_live(tmp_path)
    assert told["left"] == pytest.approx(10)  # half an epoch took 5 s, one is left
    assert (told["phase"], told["epoch"], told["step"]) == ("train", 3, 10)
    live.end()
    assert list(tmp_path.iterdir()) == []
