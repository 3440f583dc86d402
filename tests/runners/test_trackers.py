"""What dashboards were told is read back from their own files."""

import pytest

from dml_bench.errors import DmlBenchError
from dml_bench.flow import VOCABULARY
from dml_bench.recipe.reader import read_recipe
from dml_bench.runners import trackers
from dml_bench.runners.trackers import Tracking

RUN = read_recipe({"name": "r", "dataset": "digits", "loss": {"name": "arcface", "scale": 8.0}}, VOCABULARY)[0]
EVENTS = [
    {"event": "phase", "phase": "train"},
    {"event": "epoch", "epoch": 1, "loss": 2.0, "learning_rate": 0.1, "images_per_second": 90.0, "seconds": 1.0},
    {"event": "validated", "epoch": 1, "metric": "map@r", "value": 0.25},
    {"event": "epoch", "epoch": 2, "loss": 1.5, "learning_rate": 0.05, "images_per_second": 95.0, "seconds": 1.0},
    {"event": "done", "status": "ok", "reason": "", "metrics": {"recall@1": 0.75, "nmi": 0.5}},
]


def track(name, folder, events=EVENTS, run=RUN):
    warnings = []
    tracking = Tracking([name], folder, warnings.append)
    for event in events:
        tracking.show(run, event)
    return warnings


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_is_told_everything(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (extra track)")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert track("tensorboard", tmp_path) == []
    [folder] = (tmp_path / "tensorboard").iterdir()
    assert folder.name == f"arcface-{RUN.recipe_id}-seed0"
    told = EventAccumulator(str(folder)).Reload()

    def scalars(name):
        return [(item.step, item.value) for item in told.Scalars(name)]

    assert scalars("training/loss") == [(1, 2.0), (2, 1.5)]
    assert scalars("training/map@r") == [(1, 0.25)]
    assert scalars("test/recall@1") == [(2, 0.75)]


@pytest.mark.filterwarnings("ignore")
def test_mlflow_is_told_everything(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="mlflow is not installed (extra track)")
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert track("mlflow", tmp_path) == []
    failed = [{"event": "done", "status": "failed", "reason": "diverged", "metrics": {}}]
    assert track("mlflow", tmp_path, failed) == []
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("r")
    failed, run = client.search_runs([experiment.experiment_id])
    assert (run.info.status, failed.info.status) == ("FINISHED", "FAILED")
    assert run.data.params == {"loss": "arcface", "scale": "8.0"}
    assert run.data.tags["recipe_id"] == RUN.recipe_id
    assert run.data.metrics["test/recall_at_1"] == 0.75
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss")] == [(1, 2.0), (2, 1.5)]


@pytest.mark.filterwarnings("ignore")
def test_wandb_is_told_everything(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert track("wandb", tmp_path) == []
    [file] = tmp_path.rglob("*.wandb")
    content = file.read_bytes()
    for word in (b"training/loss", b"test/recall@1", b"arcface"):
        assert word in content


def test_a_tracker_that_fails_warns_once_and_is_left_out(tmp_path, monkeypatch):
    told = []

    class Broken:
        def __init__(self, run, folder):
            pass

        def epoch(self, number, values):
            told.append(number)
            raise OSError("the dashboard is down")

    monkeypatch.setitem(trackers.TRACKERS, "broken", ("json", Broken))
    assert track("broken", tmp_path) == ["--track broken: OSError: the dashboard is down; goes on without it"]
    assert told == [1]


def test_mistakes_are_named_before_anything_runs(tmp_path, monkeypatch):
    with pytest.raises(DmlBenchError, match="--track tensorbord: must be one of tensorboard, mlflow, wandb"):
        Tracking(["tensorbord"], tmp_path, print)
    monkeypatch.setitem(trackers.TRACKERS, "absent", ("no_such_package_here", None))
    with pytest.raises(DmlBenchError, match=r"not installed: pip install 'dml-bench\[track\]'"):
        Tracking(["absent"], tmp_path, print)
