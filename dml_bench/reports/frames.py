"""Published runs as tidy pandas frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Literal

import pandas as pd

from dml_bench.errors import ResultsError
from dml_bench.reports.comparison import Compared, compared
from dml_bench.reports.measured import per_query
from dml_bench.reports.options import options_text
from dml_bench.reports.summary import long_table
from dml_bench.results.record import Epoch, RunRecord
from dml_bench.results.store import read_runs

Kind = Literal["metrics", "runs", "curve", "per_query"]


class Results:
    """The published runs at or below some folders. Needs no torch.

    Args:
        folders: such as ``"runs/quickstart"``.

    Raises:
        ResultsError: on use, if a folder is missing, holds no run, or a record is broken.

    Example:
        >>> Results("runs/nowhere").frame()
        Traceback (most recent call last):
        dml_bench.errors.ResultsError: runs/nowhere: no such folder of runs
    """

    def __init__(self, *folders: Path | str) -> None:
        self.folders = tuple(map(Path, folders))

    @cached_property
    def records(self) -> list[RunRecord]:
        """The records of the runs, in order of path."""
        return read_runs(self.folders)

    def frame(self, kind: Kind = "metrics") -> pd.DataFrame:
        """Return a frame: a line per run and metric, per run, per run and epoch, or per run and query.

        Args:
            kind: ``metrics``, ``runs``, ``curve`` or ``per_query``. In ``curve``, ``train_loss`` is the value of an
                epoch, as ``loss`` is the name.
        """
        if kind == "metrics":
            return long_table(self.records)
        if kind == "runs":
            return pd.DataFrame([{**_head(run), **run.metrics, **run.costs, **_seconds(run)} for run in self.records])
        if kind == "curve":
            lines = [_head(run) | _epoch(epoch) for run in self.records for epoch in run.curve]
            return pd.DataFrame(lines)
        if kind == "per_query":
            parts = [pd.DataFrame({**per_query(run), **_head(run)}) for run in self.records if per_query(run)]
            return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
        raise ResultsError(f"frame {kind!r}: must be metrics, runs, curve or per_query")

    def compare(self, a: str, b: str, metric: str = "recall@1") -> Compared:
        """Compare two recipes, each named by its loss or its recipe id.

        Raises:
            ResultsError: if a name does not name one recipe, or the two cannot be compared.
        """
        return compared(self._side(a), self._side(b), metric)

    def _side(self, name: str) -> Sequence[RunRecord]:
        runs = [run for run in self.records if name in (run.loss, run.recipe_id)]
        if len({run.recipe_id for run in runs}) != 1:
            known = sorted({f"{run.loss} ({run.recipe_id})" for run in self.records})
            raise ResultsError(f"{name!r} must name the runs of one recipe: {', '.join(known)}")
        return runs


def _head(run: RunRecord) -> dict[str, object]:
    names = ("recipe_id", "protocol_id", "dataset", "loss", "backbone", "embedding_dim", "seed", "status")
    return {**{name: getattr(run, name) for name in names}, "options": options_text(run.options)}


def _epoch(epoch: Epoch) -> dict[str, object]:
    return {"train_loss" if name == "loss" else name: value for name, value in asdict(epoch).items()}


def _seconds(run: RunRecord) -> dict[str, float]:
    return {f"{name}_seconds": value for name, value in run.seconds.items()}
