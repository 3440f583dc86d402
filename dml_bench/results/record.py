"""The record of one run: everything a table, a plot or a sceptic needs, as one JSON file."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from dml_bench.errors import ResultsError
from dml_bench.results.outcome import kind_of


@dataclass(frozen=True)
class Epoch:
    """One line of ``curve.csv``: what training looked like after an epoch (counted from 1).

    ``waiting``: seconds without a batch to go on with, of ``seconds``; ``score``: what model selection measured after
    the epoch. Either is null where it was not measured.
    """

    epoch: int
    loss: float
    learning_rate: float
    images_per_second: float
    seconds: float
    waiting: float | None = None
    score: float | None = None


@dataclass(frozen=True)
class RunRecord:
    """One run.

    Attributes:
        recipe: the checked recipe with all defaults filled in.
        options: what sets this run apart: options of the loss that are not at their default, and other axes of the
            grid as dotted paths, such as ``{"scale": 30.0, "training.epochs": 5}``.
        reason: why the run failed; it begins with one of ``outcome.KINDS``, such as ``diverged: ``.
        died: whether the run failed because its process died, which the recipe does not decide.
        metrics: metric name to value, shares in [0, 1]; ``nmi_restart_std`` stands beside ``nmi``, and so on. Empty
            if the run failed.
        curve: one entry per finished epoch.
        centers_left: per training class, how many centers remain when those closer than 0.1 are merged; empty for
            losses with one center per class.
        selected: the ``epoch`` whose network was measured, and the ``metric`` and ``value`` it was chosen by; empty if
            it is the last.
        weights: sha256 of the file that the backbone began from; empty if it began from random weights.
        seconds: time spent in ``data``, ``train``, ``evaluate`` and in ``total``, over all attempts.
        costs: ``parameters`` of the network and ``loss_parameters`` that were trained; ``peak_memory`` in bytes, of the
            GPU where there is one, else of the process.
        checks: what ``dml-bench audit`` asks: ``centers`` of the loss, how many of them are ``centers_still``, as they
            turned by less than a ten-thousandth while training; ``kmeans_unconverged`` restarts that were stopped.
        attempts: how often the run was begun, or gone on with after its process had died.
        folder: where the record was read from; no part of it.
        resumed_from: optimizer steps that were done when the last attempt began.
    """

    recipe_name: str
    recipe_id: str
    protocol_id: str
    seed: int
    dataset: str
    loss: str
    backbone: str
    embedding_dim: int
    status: Literal["ok", "failed"]
    reason: str = ""
    died: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    curve: tuple[Epoch, ...] = ()
    centers_left: tuple[int, ...] = ()
    selected: Mapping[str, Any] = field(default_factory=dict)
    weights: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, int] = field(default_factory=dict)
    checks: Mapping[str, int] = field(default_factory=dict)
    attempts: int = 1
    resumed_from: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    schema: int = 1
    folder: Path | None = field(default=None, compare=False, repr=False)

    @property
    def run_id(self) -> str:
        """The name of the run's folder."""
        return f"{self.recipe_id}-s{self.seed}"

    @property
    def kind(self) -> str:
        """The kind of failure, one of ``outcome.KINDS``; empty if the run is ok."""
        if self.status == "ok":
            return ""
        return "died" if self.died else kind_of(self.reason)

    @property
    def may_go_on(self) -> bool:
        """Whether another attempt may go on from where the last one was: it was ended from outside."""
        return self.kind in ("died", "timed out")

    def write(self, folder: Path) -> None:
        """Write ``record.json``, and the training curve once more as ``curve.csv``."""
        values = {name: value for name, value in asdict(self).items() if name != "folder"}
        text = json.dumps(values, indent=1, ensure_ascii=False) + "\n"
        (folder / "record.json").write_text(text, encoding="utf-8")
        with (folder / "curve.csv").open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow([f.name for f in fields(Epoch)])
            table.writerows(astuple(epoch) for epoch in self.curve)

    @classmethod
    def read(cls, path: Path) -> RunRecord:
        """Read ``record.json``.

        Raises:
            ResultsError: naming the file, if it is unreadable, no JSON, or has other fields than a record has.
        """
        try:
            text = path.read_text(encoding="utf-8")
            values = json.loads(text)
            if not isinstance(values, dict):
                raise ValueError("not a JSON object")
            if values.get("schema") != cls.schema:
                raise ValueError(f"schema {values.get('schema')!r}, this version reads schema {cls.schema}")
            unknown = set(values) - {f.name for f in fields(cls) if f.name != "folder"}
            if unknown:
                raise ValueError(f"unknown fields {sorted(unknown)}")
            return replace(TypeAdapter(cls).validate_json(text), folder=path.parent)
        except (OSError, ValueError) as error:
            raise ResultsError(f"{path}: not a readable run record: {error}") from error
