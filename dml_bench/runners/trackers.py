"""Show runs in other people's dashboards as they go. The files of a run stay the record: a tracker only copies."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from dml_bench.errors import DmlBenchError
from dml_bench.recipe.check import Run
from dml_bench.runners.progress import describe

EPOCH = ("loss", "learning_rate", "images_per_second")
"""What is shown of each epoch, beside what model selection measured."""


class Tracker(Protocol):
    """What a dashboard is told of one run."""

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Show values of an epoch, counted from 1."""

    def end(self, status: str, metrics: Mapping[str, float]) -> None:
        """Show what the run came to, ``ok`` or ``failed``, and let go of it."""


class TensorBoard:
    """Event files in ``DIR/tensorboard``, for ``tensorboard --logdir``."""

    def __init__(self, run: Run, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        name = f"{run.method}-{run.recipe_id}-seed{run.recipe.seed}"
        self._writer: Any = SummaryWriter(str(folder / "tensorboard" / name))
        self._last = 0
        self._writer.add_text("run", describe(run))

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Show values of an epoch."""
        self._last = number
        for name, value in values.items():
            self._writer.add_scalar(f"training/{name}", value, number)

    def end(self, status: str, metrics: Mapping[str, float]) -> None:
        """Show the metrics on the test classes, and close the file."""
        for name, value in metrics.items():
            self._writer.add_scalar(f"test/{name}", value, self._last)
        self._writer.close()


class MLflow:
    """Runs of an experiment named like the recipe, in ``DIR/mlflow.db`` unless ``MLFLOW_TRACKING_URI`` is set."""

    def __init__(self, run: Run, folder: Path) -> None:
        from mlflow import MlflowClient

        where = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.resolve() / 'mlflow.db'}"
        self._client = MlflowClient(where)
        known = self._client.get_experiment_by_name(run.recipe.name)
        place = str((folder / "mlflow").resolve())
        experiment = known.experiment_id if known else self._client.create_experiment(run.recipe.name, place)
        tags = {"recipe_id": run.recipe_id, "seed": str(run.recipe.seed)}
        self._id = self._client.create_run(experiment, run_name=describe(run), tags=tags).info.run_id
        for name, value in {"loss": run.method, **run.options}.items():
            self._client.log_param(self._id, name, value)

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Show values of an epoch."""
        for name, value in values.items():
            self._client.log_metric(self._id, _plain(name), value, step=number)

    def end(self, status: str, metrics: Mapping[str, float]) -> None:
        """Show the metrics on the test classes, and end the run."""
        for name, value in metrics.items():
            self._client.log_metric(self._id, _plain(f"test/{name}"), value)
        self._client.set_terminated(self._id, "FINISHED" if status == "ok" else "FAILED")


class WandB:
    """Runs of a project named like the recipe; the environment says where they go, such as ``WANDB_MODE=offline``."""

    def __init__(self, run: Run, folder: Path) -> None:
        import wandb

        config = {"loss": run.method, **run.options, "recipe_id": run.recipe_id, "seed": run.recipe.seed}
        how = {"dir": str(folder), "config": config, "reinit": "create_new"}
        self._run: Any = wandb.init(project=run.recipe.name, name=describe(run), **how)

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Show values of an epoch."""
        self._run.log({f"training/{name}": value for name, value in values.items()}, step=number)

    def end(self, status: str, metrics: Mapping[str, float]) -> None:
        """Show the metrics on the test classes, and end the run."""
        self._run.summary.update({f"test/{name}": value for name, value in metrics.items()})
        self._run.finish(exit_code=0 if status == "ok" else 1)


TRACKERS: Mapping[str, tuple[str, Callable[[Run, Path], Tracker]]] = {
    "tensorboard": ("tensorboard", TensorBoard),
    "mlflow": ("mlflow", MLflow),
    "wandb": ("wandb", WandB),
}
"""By name: the package that has to be there, and what follows a run."""


class Tracking:
    """Pass the events of a grid on to trackers; one that fails is left out from then on, with one warning.

    Args:
        names: keys of ``TRACKERS``.
        folder: of the runs.
        warn: is told what went wrong.

    Raises:
        DmlBenchError: for an unknown name, or a package that is not there.
    """

    def __init__(self, names: Iterable[str], folder: Path, warn: Callable[[str], None]) -> None:
        self._names, self._folder, self._warn = list(dict.fromkeys(names)), folder, warn
        self._open: dict[tuple[str, str], Tracker] = {}
        for name in self._names:
            if name not in TRACKERS:
                raise DmlBenchError(f"--track {name}: must be one of {', '.join(TRACKERS)}")
            try:
                importlib.import_module(TRACKERS[name][0])
            except ImportError:
                raise DmlBenchError(
                    f"--track {name}: {name} is not installed: pip install 'dml-bench[track]'"
                ) from None

    def show(self, run: Run, event: Mapping[str, Any]) -> None:
        """Take one event of a run in."""
        for name in list(self._names):
            try:
                self._pass_on(name, run, event)
            except Exception as error:  # whatever a dashboard raises, the run goes on
                self._names.remove(name)
                self._warn(f"--track {name}: {type(error).__name__}: {error}; goes on without it")

    def _pass_on(self, name: str, run: Run, event: Mapping[str, Any]) -> None:
        key = (name, run.run_id)
        if event["event"] not in ("epoch", "validated", "done"):
            return
        tracker = self._open.get(key) or self._open.setdefault(key, TRACKERS[name][1](run, self._folder))
        if event["event"] == "epoch":
            tracker.epoch(event["epoch"], {part: event[part] for part in EPOCH})
        elif event["event"] == "validated":
            tracker.epoch(event["epoch"], {event["metric"]: event["value"]})
        else:
            del self._open[key]
            tracker.end(event["status"], event["metrics"])


def _plain(name: str) -> str:
    """Write a name with the signs that MLflow allows."""
    return name.replace("@", "_at_")
