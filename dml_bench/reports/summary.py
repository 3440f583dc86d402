"""From run records to comparable rows: one row per loss and its options, one section per data set and protocol."""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from dml_bench.errors import ResultsError
from dml_bench.evaluation.scores import SPREAD
from dml_bench.recipe.identity import RULES, selection_rule
from dml_bench.reports.options import known_options, option_names, options_text
from dml_bench.reports.scales import is_spread, scale_of
from dml_bench.results.record import RunRecord

REFERENCES = ("raw_pixels", "raw_features", "untrained")
"""What stands in the loss column of rows that were not trained: a yardstick, not a competitor."""

LONG_COLUMNS = (
    *("recipe", "recipe_id", "protocol_id", "dataset", "loss", "options", "backbone", "embedding_dim", "seed"),
    *("status", "reason", "metric", "value", "train_seconds", "selection"),
)


@dataclass(frozen=True)
class Row:
    """The runs of one recipe, which differ in their seed alone.

    Attributes:
        runs: at least one, ordered by seed.
        options: what sets the recipe apart, as text such as ``scale=30, training.epochs=5``; defaults too, where
            another row of the loss has something else.
    """

    runs: tuple[RunRecord, ...]
    options: str

    @property
    def loss(self) -> str:
        """The loss's key, or one of ``REFERENCES``."""
        return self.runs[0].loss

    @property
    def backbone(self) -> str:
        """The backbone's name."""
        return self.runs[0].backbone

    @property
    def embedding_dim(self) -> int:
        """The number of dimensions of an embedding."""
        return self.runs[0].embedding_dim

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What names the row within its section."""
        return self.loss, self.options, self.backbone, self.embedding_dim

    @property
    def is_reference(self) -> bool:
        """Whether nothing was trained."""
        return self.loss in REFERENCES

    @property
    def finished(self) -> tuple[RunRecord, ...]:
        """The runs that did not fail."""
        return tuple(run for run in self.runs if run.status == "ok")

    @property
    def status(self) -> str:
        """``ok``, ``partial`` when some seeds failed, or ``failed`` when all did."""
        if not self.finished:
            return "failed"
        return "ok" if len(self.finished) == len(self.runs) else "partial"

    @property
    def seeds(self) -> str:
        """How many seeds the numbers rest on: ``3``, or ``2 of 3 ok``."""
        total = len(self.runs)
        return str(total) if self.status == "ok" else f"{len(self.finished)} of {total} ok"

    @property
    def train_seconds(self) -> float:
        """Mean training time in seconds over the finished runs; nan if none says."""
        return _mean([run.seconds["train"] for run in self.finished if "train" in run.seconds])

    def mean(self, metric: str) -> float:
        """Return the mean over the finished seeds; nan if there is none."""
        return _mean(self._values(metric))

    def std(self, metric: str) -> float:
        """Return the sample standard deviation (n - 1) over the finished seeds; nan for fewer than two."""
        values = self._values(metric)
        return statistics.stdev(values) if len(values) > 1 and not math.isnan(math.fsum(values)) else math.nan

    def _values(self, metric: str) -> list[float]:
        return [run.metrics[metric] for run in self.finished if metric in run.metrics]


@dataclass(frozen=True)
class Section:
    """The rows that may be compared: one data set under one protocol, best first, references last.

    Attributes:
        left_out: trained rows that are not among ``rows``, being too many to be shown.
    """

    dataset: str
    protocol_id: str
    rows: tuple[Row, ...]
    left_out: int = 0

    @property
    def selection(self) -> str:
        """How the measured networks were selected, the same for all rows."""
        return selected_by(self.rows[0].runs[0])

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that any row has, in display order; a restart spread is none."""
        return tuple(name for name in metric_names(self.rows) if not is_spread(name))

    @cached_property
    def references(self) -> tuple[Row, ...]:
        """The rows of which nothing was trained."""
        return tuple(row for row in self.rows if row.is_reference)

    @cached_property
    def ranked_by(self) -> str:
        """The metric by which rows are ordered; empty if none of them tells better from worse."""
        return ranking_metric(self.rows)

    @property
    def varying(self) -> tuple[str, ...]:
        """Which of ``backbone`` and ``embedding_dim`` tell the compared rows apart."""
        compared = [row for row in self.rows if not row.is_reference] or self.rows
        return tuple(
            name for name in ("backbone", "embedding_dim") if len({getattr(row, name) for row in compared}) > 1
        )


def sections(records: Sequence[RunRecord]) -> list[Section]:
    """Group runs into rows and rows into sections, by data set and protocol.

    Copies of one and the same record count once.

    Raises:
        ResultsError: when two different records claim to be the same run.
    """
    grouped: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in _rows(_distinct(records)):
        grouped[row.runs[0].dataset, row.runs[0].protocol_id].append(row)
    return [Section(*key, tuple(_ranked(rows))) for key, rows in sorted(grouped.items())]


def long_table(records: Sequence[RunRecord]) -> pd.DataFrame:
    """List one row per run and metric (as recorded: shares in [0, 1]); a run without metrics has one row that says why.

    Raises:
        ResultsError: when two different records claim to be the same run.
    """
    lines = [line for section in sections(records) for row in section.rows for line in _long_lines(row)]
    return pd.DataFrame(lines, columns=list(LONG_COLUMNS))


def summary_table(records: Sequence[RunRecord]) -> pd.DataFrame:
    """List one row per data set, protocol, loss, options, backbone and dimension: mean and spread over seeds.

    Metrics are as recorded, shares in [0, 1]. The spread is the sample standard deviation, empty for a single seed.

    Raises:
        ResultsError: when two different records claim to be the same run.
    """
    found = sections(records)
    names = metric_names(row for section in found for row in section.rows)
    columns = ["dataset", "protocol_id", "loss", "options", "backbone", "embedding_dim", "seeds"]
    columns += [f"{name}_{kind}" for name in names for kind in ("mean", "std")] + [
        "train_seconds_mean",
        "status",
        "selection",
    ]
    lines = [
        [
            section.dataset,
            section.protocol_id,
            row.loss,
            row.options,
            row.backbone,
            row.embedding_dim,
            row.seeds,
        ]
        + [value for name in names for value in (row.mean(name), row.std(name))]
        + [row.train_seconds, row.status, section.selection]
        for section in found
        for row in section.rows
    ]
    return pd.DataFrame(lines, columns=columns)


def metric_names(rows: Iterable[Row]) -> list[str]:
    """Return every metric of the rows in display order.

    That is recall@k by k, map@r, r_precision, nmi, all others by name, and the restart spreads.
    """
    known = ["map@r", "r_precision", "nmi"]

    def place(name: str) -> tuple[Any, ...]:
        if name.startswith("recall@"):
            return (0, natural(name))
        if name in known:
            return (1, known.index(name))
        return (3 if is_spread(name) else 2, natural(name))

    return sorted({name for row in rows for run in row.finished for name in run.metrics}, key=place)


def selected_by(run: RunRecord) -> str:
    """Return how the measured network was selected, as tables say it."""
    return selection_rule(run.recipe.get("selection")) or RULES["selection"]


def natural(text: str) -> list[tuple[int, float, str]]:
    """Return a sort key that counts: ``K=2`` before ``K=10``."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [(1, float(part), "") if i % 2 else (0, 0.0, part) for i, part in enumerate(parts)]


def _distinct(records: Sequence[RunRecord]) -> list[RunRecord]:
    runs: dict[tuple[str, str, str], RunRecord] = {}
    for record in records:
        first = runs.setdefault((record.dataset, record.protocol_id, record.run_id), record)
        # By text, because nan (a loss that diverged) differs from itself.
        if repr(first) != repr(record):
            raise ResultsError(
                f"run {record.run_id} of '{record.recipe_name}' is there twice with different content; "
                "put only one of them into a report"
            )
    return list(runs.values())


def _rows(records: Sequence[RunRecord]) -> list[Row]:
    named: dict[tuple[str, str, str], list[RunRecord]] = defaultdict(list)
    for run in records:
        named[run.dataset, run.protocol_id, run.loss].append(run)
    options = {key: option_names(runs) for key, runs in named.items()}
    visible: dict[tuple[Any, ...], dict[str, list[RunRecord]]] = defaultdict(lambda: defaultdict(list))
    for run in records:
        text = options_text(known_options(run, options[run.dataset, run.protocol_id, run.loss]))
        shown = (run.loss, text, run.backbone, run.embedding_dim)
        visible[(run.dataset, run.protocol_id, *shown)][run.recipe_id].append(run)
    return [
        Row(tuple(sorted(runs, key=lambda run: run.seed)), _told_apart(key[3], recipe, len(recipes) > 1))
        for key, recipes in visible.items()
        for recipe, runs in recipes.items()
    ]


def _told_apart(options: str, recipe: str, ambiguous: bool) -> str:
    return ", ".join(filter(None, (options, f"recipe={recipe}" if ambiguous else "")))


def ranking_metric(rows: Iterable[Row]) -> str:
    """Return the metric that orders rows: recall@1, else the first that tells better from worse, else nothing."""
    names = [name for name in metric_names(rows) if not is_spread(name) and scale_of(name).better]
    return "recall@1" if "recall@1" in names else next(iter(names), "")


def _ranked(rows: Sequence[Row]) -> list[Row]:
    first = ranking_metric(rows)
    scale = scale_of(first)

    def place(row: Row) -> tuple[Any, ...]:
        badness = scale.badness(row.mean(first))
        return (row.is_reference, row.loss if row.is_reference else "", badness, row.loss, natural(row.options))

    return sorted(rows, key=place)


def _long_lines(row: Row) -> Iterable[list[Any]]:
    for run in row.runs:
        names = _spreads_beside(metric_names([Row((run,), "")]))
        head: list[Any] = [
            run.recipe_name,
            run.recipe_id,
            run.protocol_id,
            run.dataset,
            run.loss,
            row.options,
            run.backbone,
        ]
        head += [run.embedding_dim, run.seed, run.status, run.reason]
        seconds = run.seconds.get("train", math.nan)
        for name in names:
            yield [*head, name, run.metrics[name], seconds, selected_by(run)]
        if not names:
            yield [*head, "", math.nan, seconds, selected_by(run)]


def _spreads_beside(names: Sequence[str]) -> list[str]:
    """Put each restart spread behind its metric; one without a metric stays last."""
    beside = [key for name in names for key in (name, name + SPREAD) if key in names and not is_spread(name)]
    return [*beside, *(name for name in names if name not in beside)]


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan
