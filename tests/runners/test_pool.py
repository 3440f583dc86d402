import os
import signal
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from dml_bench.errors import DmlBenchError, ResultsError, RunTaken
from dml_bench.flow import VOCABULARY, execute
from dml_bench.recipe.reader import read_recipe
from dml_bench.results.lease import Lease
from dml_bench.results.store import find_run, prepare, stamp
from dml_bench.runners.local import run, run_side_by_side
from dml_bench.runners.plan import Plan, choose_device, choose_devices, workers

RECIPE = {
    "dataset": "digits",
    "loss": "norm_softmax",
    "training": {"epochs": 1, "sampler": {"name": "pxk", "classes_per_batch": 5, "images_per_class": 8}},
    "evaluation": {"metrics": ["recall@1"]},
    "references": False,
}


def children():
    """Process ids of the workers of this process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = path.read_text().rsplit(")", 1)[1].split()[1]
            found += [int(path.parent.name)] if int(parent) == os.getpid() else []
    return found


def test_a_killed_worker_is_a_failed_run_and_the_others_go_on(tmp_path):
    runs = read_recipe({**RECIPE, "seeds": [0, 1]}, VOCABULARY)
    prepare(tmp_path)
    outcome, killed = {}, False
    for item, event in run_side_by_side(Plan(tuple(runs), tmp_path), runs, ["cpu"]):
        if event["event"] == "step" and not killed:
            killed = True
            for child in children():
                os.kill(child, signal.SIGKILL)
        if event["event"] == "done":
            outcome[item.recipe.seed] = event["status"]
    assert killed
    assert outcome == {0: "failed", 1: "ok"}
    dead, alive = (find_run(tmp_path, item.run_id) for item in runs)
    assert "died: the run's process was killed by SIGKILL" in dead.reason
    assert dead.kind == "died"
    assert list(tmp_path.glob(".lease-*")) == []
    assert [path.name for path in tmp_path.glob(".work-*")] == [f".work-{runs[0].run_id}"]  # to go on from
    assert dead.protocol_id == alive.protocol_id
    assert list(Plan(tuple(runs), tmp_path).done()) == [runs[1].run_id]  # a run that died is tried again


def test_side_by_side_gives_the_same_digits_as_one_after_the_other(tmp_path):
    records = run({**RECIPE, "seeds": [0, 1]}, out=tmp_path / "one")
    runs = read_recipe({**RECIPE, "seeds": [0, 1]}, VOCABULARY)
    prepare(tmp_path / "two")
    list(run_side_by_side(Plan(tuple(runs), tmp_path / "two"), runs, ["cpu", "cpu"]))
    for record in records:
        other = find_run(tmp_path / "two", record.run_id)
        assert (other.metrics, [e.loss for e in other.curve]) == (record.metrics, [e.loss for e in record.curve])
        paths = [tmp_path / folder / record.run_id / "embeddings.npz" for folder in ("one", "two")]
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_done_runs_are_not_repeated_unless_forced(tmp_path):
    (first,) = run(RECIPE, out=tmp_path)
    (second,) = run(RECIPE, out=tmp_path)
    assert second == first
    (third,) = run(RECIPE, out=tmp_path, force=True)
    assert third.metrics == first.metrics
    assert third.seconds != first.seconds


def test_a_run_that_fails_is_recorded_with_its_reason(tmp_path):
    recipe = {**RECIPE, "training": {**RECIPE["training"], "optimizer": {"name": "sgd", "lr": 1e30}}}
    (record,) = run(recipe, out=tmp_path)
    assert record.status == "failed"
    assert record.reason.startswith("diverged: DivergedError: ")
    assert record.kind == "diverged"
    assert record.metrics == {}
    assert "Traceback" in (tmp_path / record.run_id / "log.txt").read_text()
    assert threading.active_count() < 10


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:99", "cpu:", "cpu:0"])
def test_devices_that_are_not_there_are_refused(name):
    with pytest.raises(DmlBenchError, match="--device"):
        choose_device(name)


def test_devices_are_places_for_runs():
    assert choose_devices("cpu") == ["cpu"]
    assert choose_devices("cpu*2, cpu") == ["cpu"] * 3
    assert workers(["cpu"], 4, 2) == ["cpu"] * 4
    assert workers(["cpu"], None, 2) == ["cpu"] * 2
    assert workers(["a", "a", "b"], None, 9) == ["a", "a", "b"]
    assert workers(["a", "a", "b"], 2, 9) == ["a", "a"]
    with pytest.raises(DmlBenchError, match="--jobs 4: --devices names 3 places"):
        workers(["a", "a", "b"], 4, 9)
    for wrong in ("cpu*0", "cpu,", "cpu*x", "gpu*2"):
        with pytest.raises(DmlBenchError, match="--device"):
            choose_devices(wrong)


def test_a_run_that_somebody_else_finishes_is_not_repeated(tmp_path):
    (run_,) = read_recipe(RECIPE, VOCABULARY)
    before = stamp(tmp_path, run_.run_id)
    record = execute(run_, tmp_path)
    told = []
    assert execute(run_, tmp_path, tell=told.append, replaces=before) == record
    assert told == []
    assert execute(run_, tmp_path, replaces=stamp(tmp_path, run_.run_id)).seconds != record.seconds


def test_a_run_that_somebody_does_is_left_to_them_and_waited_for(tmp_path):
    runs = read_recipe({**RECIPE, "seeds": [0, 1]}, VOCABULARY)
    with ExitStack() as theirs:
        theirs.enter_context(Lease(tmp_path, runs[0].run_id))
        with pytest.raises(RunTaken, match="is being done by process"):
            execute(runs[0], tmp_path)
        done = []
        for item, event in run_side_by_side(Plan(tuple(runs), tmp_path), runs, ["cpu"]):
            if event["event"] == "done":
                done.append(item.recipe.seed)
                theirs.close()  # as if they had died
    assert done == [1, 0]


def test_a_sampler_that_does_not_fit_is_an_error_before_the_first_run(tmp_path):
    said = "training.sampler.classes_per_batch: must be at most the number of training classes, 5, not 16"
    with pytest.raises(DmlBenchError, match=said):
        run({"dataset": "digits", "loss": "norm_softmax"}, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_record_names_the_device(tmp_path):
    (record,) = run(RECIPE, out=tmp_path)
    assert record.environment["device"] == "cpu"
    assert record.environment["packages"]["torch"]


def test_a_worker_that_dies_of_any_signal_is_noticed(tmp_path):
    runs = read_recipe(RECIPE, VOCABULARY)
    prepare(tmp_path)
    reasons = []
    for _, event in run_side_by_side(Plan(tuple(runs), tmp_path), runs, ["cpu"]):
        if event["event"] == "step":
            for child in children():
                os.kill(child, signal.SIGRTMIN + 6)
        if event["event"] == "done":
            reasons.append(event["reason"])
    assert len(reasons) == 1
    assert "killed by" in reasons[0]


def test_a_dying_worker_does_not_replace_a_good_record(tmp_path):
    (good,) = run(RECIPE, out=tmp_path)
    runs = read_recipe(RECIPE, VOCABULARY)
    for _, event in run_side_by_side(Plan(tuple(runs), tmp_path), runs, ["cpu"]):
        if event["event"] == "step":
            for child in children():
                os.kill(child, signal.SIGKILL)
    assert find_run(tmp_path, good.run_id) == good


def test_changed_data_is_not_taken_for_done(tmp_path):
    (record,) = run(RECIPE, out=tmp_path)
    path = tmp_path / record.run_id / "record.json"
    path.write_text(path.read_text().replace(record.data["digest"], "0" * 64))
    with pytest.raises(ResultsError, match="was made from other data"):
        run(RECIPE, out=tmp_path)
    assert run(RECIPE, out=tmp_path, force=True)[0].metrics == record.metrics


def test_workers_do_not_import_from_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "queue.py").write_text("raise SystemExit('the wrong file')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    runs = read_recipe(RECIPE, VOCABULARY)
    prepare(tmp_path / "runs")
    events = [event for _, event in run_side_by_side(Plan(tuple(runs), tmp_path / "runs"), runs, ["cpu"])]
    assert events[-1]["status"] == "ok", events[-1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"loss": {"name": "quintuplet"}, "training": {"sampler": {"name": "adaptive"}}}, "needs a loss with centers"),
        ({"loss": {"name": "focal", "alpha": [1.0, 2.0]}}, "loss.alpha: "),
    ],
)
def test_a_loss_that_does_not_fit_is_an_error_before_the_first_run(change, said, tmp_path):
    with pytest.raises(DmlBenchError, match=said):
        run({**RECIPE, **change}, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_dies_keeps_what_is_known_of_it(tmp_path):
    slow = {**RECIPE, "training": {**RECIPE["training"], "epochs": 2000}}
    (item,) = read_recipe(slow, VOCABULARY)
    prepare(tmp_path)
    resumed = []
    for _ in range(2):
        epochs = 0
        for _, event in run_side_by_side(Plan((item,), tmp_path), [item], ["cpu"], checkpoint_every=5):
            resumed += [event["steps"]] if event["event"] == "resumed" else []
            epochs += event["event"] == "epoch"
            if epochs == 2:
                for child in children():
                    os.kill(child, signal.SIGKILL)
    record = find_run(tmp_path, item.run_id)
    assert record.kind == "died" and record.attempts == 2
    assert [record.resumed_from] == resumed and record.resumed_from > 0
    assert record.seconds["total"] > record.seconds["train"] > 0
    assert [epoch.epoch for epoch in record.curve][:2] == [1, 2]  # what the newest checkpoint knows
    assert "killed by SIGKILL" in record.reason
    log = (tmp_path / item.run_id / "log.txt").read_text()
    assert f"attempt 2 goes on after step {record.resumed_from}" in log
