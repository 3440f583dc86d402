"""dml_bench: a benchmark suite for deep metric learning losses.

Public names: ``losses.build`` (any registered loss, for anybody's training loop), ``evaluate`` (retrieval and
clustering metrics of embeddings), ``run`` (a whole recipe), ``load_run`` (a trained network), ``Results`` (published
runs as frames, without torch) and the errors. What needs torch loads it when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dml_bench.errors import DataError, DmlBenchError, OptionError, RecipeError, ResultsError, TrainingError

if TYPE_CHECKING:
    from dml_bench import losses
    from dml_bench.evaluation.evaluate import Scores, evaluate
    from dml_bench.reports.frames import Results
    from dml_bench.runners.local import run
    from dml_bench.training.assembly import load_run

__version__ = "0.1.0"

__all__ = [
    "DataError",
    "DmlBenchError",
    "OptionError",
    "RecipeError",
    "Results",
    "ResultsError",
    "Scores",
    "TrainingError",
    "evaluate",
    "load_run",
    "losses",
    "run",
]

_HOMES = {
    "evaluate": "evaluation.evaluate",
    "Scores": "evaluation.evaluate",
    "Results": "reports.frames",
    "run": "runners.local",
    "load_run": "training.assembly",
    "losses": "losses",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dml_bench' has no attribute '{name}'")
    home = import_module(f"dml_bench.{_HOMES[name]}")
    return home if name == "losses" else getattr(home, name)
