"""Rows with how sure they are: intervals, ties with the best, and who is better than whom."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

from dml_bench.errors import DmlBenchError
from dml_bench.registry import suggestion
from dml_bench.reports.across import ranked_across, row_name
from dml_bench.reports.marks import MEANINGS, marks
from dml_bench.reports.measured import Measured, measured, p_of
from dml_bench.reports.printed import Cell, Printed
from dml_bench.reports.ranking import Standing, standing
from dml_bench.reports.scales import MISSING, scale_of
from dml_bench.reports.statistics import Estimate, estimate_of_seeds
from dml_bench.reports.summary import Row, Section
from dml_bench.reports.text import caption, failures, seeds_text

NAMES = ("loss", "options", "backbone", "embedding_dim")
BY = ("dataset", *NAMES)
"""What rows may be told apart by."""


@dataclass(frozen=True)
class Standings:
    """The rows of a section by one metric.

    Attributes:
        estimates: one per row.
        standing: who is better than whom; empty where the metric ranks nothing.
    """

    section: Section
    metric: str

    @cached_property
    def _measured(self) -> list[Measured | None]:
        return [measured(row.finished, self.metric) for row in self.section.rows]

    @cached_property
    def estimates(self) -> list[Estimate]:
        """Return how sure each row's mean is; the interval of a share ends at 0 and 1, its half is not cut."""
        found = []
        for row, known in zip(self.section.rows, self._measured, strict=True):
            values = [run.metrics[self.metric] for run in row.finished if self.metric in run.metrics]
            found.append(known.estimate if known else estimate_of_seeds(values))
        if not scale_of(self.metric).bounded:
            return found
        return [replace(known, low=max(known.low, 0.0), high=min(known.high, 1.0)) for known in found]

    @cached_property
    def differences(self) -> dict[tuple[int, int], tuple[float, float]]:
        """Return by how much row i is above row j > i, and the p-value of that, which is nan for a single seed.

        Only of trained rows that were measured on the same queries, and kept what they measured.
        A metric without values per query, such as nmi, has none: k-means alone moves it by points.
        """
        pairs = {}
        for i, j in combinations(range(len(self.section.rows)), 2):
            a, b = self._measured[i], self._measured[j]
            if a and b and a.queries == b.queries and not self._reference(i, j):
                pairs[i, j] = (self.estimates[i].mean - self.estimates[j].mean, p_of(a, b))
        return pairs if scale_of(self.metric).better else {}

    @cached_property
    def standing(self) -> Standing:
        """Compare every pair of rows that can be compared; see ``differences``."""
        means = [found.mean for found in self.estimates]
        return standing(means, self.differences, scale_of(self.metric).better == "higher")

    @cached_property
    def best(self) -> float:
        """Return the best mean of which something is claimed; nan where nothing is."""
        rows = zip(self.estimates, self.section.rows, strict=True)
        claimed = [known.mean for known, row in rows if known.seeds > 1 and known.classes and not row.is_reference]
        return scale_of(self.metric).best(claimed)

    def _reference(self, *rows: int) -> bool:
        return any(self.section.rows[row].is_reference for row in rows)


def tables(
    found: Sequence[Section], metrics: Sequence[str] = (), by: Sequence[str] = (), mixed: bool = False
) -> list[Printed]:
    """Return one table per data set and protocol, or all rows in one that ranks nothing.

    Args:
        found: sections of one protocol each.
        metrics: which to show; all if there are none.
        by: which of ``BY`` name the rows, in this order; options are shown in any case where rows have any.
        mixed: whether rows of different protocols stand in one table, the protocol named, without ranks.

    Raises:
        DmlBenchError: for a metric that no run has, or an unknown name in ``by``.
    """
    known = check_names(found, metrics, by)
    if mixed:
        return [_mixed(found, list(metrics) or known, by)]
    shown = [_table(s, [m for m in (metrics or s.metrics) if m in s.metrics], by) for s in found]
    return shown + across(found, metrics)


def check_names(found: Sequence[Section], metrics: Sequence[str], by: Sequence[str]) -> list[str]:
    """Return the metrics that runs have, if those that are asked for are among them.

    Raises:
        DmlBenchError: for a metric that no run has, or an unknown name in ``by``.
    """
    known = list(dict.fromkeys(name for section in found for name in section.metrics))
    for name in metrics:
        if name not in known:
            raise DmlBenchError(
                f"--metrics {name}: no run has it{suggestion(name, known)}; they have {', '.join(known)}"
            )
    for name in by:
        if name not in BY:
            raise DmlBenchError(f"--by {name}: must be among {', '.join(BY)}")
    return known


def lines(found: Sequence[Section], metrics: Sequence[str] = (), mixed: bool = False) -> list[dict[str, Any]]:
    """Return one line per row and metric, for programs: mean, deviation, interval, ties, costs, ids and what fails.

    With ``mixed``, as in ``tables``, nothing is ranked: ties and who is better are empty.
    """
    rows = []
    for section in found:
        said = [_told(section, row) for row in section.rows]
        for metric in [m for m in (metrics or section.metrics) if m in section.metrics]:
            stands = Standings(section, metric)
            for i, (row, known) in enumerate(zip(section.rows, stands.estimates, strict=True)):
                facts = {"dataset": section.dataset, "protocol_id": section.protocol_id}
                facts |= {"recipe_id": row.runs[0].recipe_id} | {name: getattr(row, name) for name in NAMES}
                numbers = {"mean": known.mean, "sd": known.sd, "low": known.low, "high": known.high}
                basis = {"seeds": known.seeds, "classes": known.classes, "basis": known.basis}
                ranks = {"tied_with_best": None, "better_than": ""} if mixed else _ranks(stands, i)
                rows.append({**facts, "metric": metric, **numbers, **basis, **ranks, **said[i]})
    return rows


def _ranks(stands: Standings, i: int) -> dict[str, Any]:
    better = " ".join(stands.section.rows[j].runs[0].recipe_id for j in stands.standing.better[i])
    return {"tied_with_best": i in stands.standing.tied, "better_than": better}


def _told(section: Section, row: Row) -> dict[str, Any]:
    """Return what a line says of a row whatever the metric."""
    spent = dict(zip(("train_seconds", "images_per_second", "peak_mb", "parameters"), costs(row), strict=True))
    failed = "; ".join(failures(replace(section, rows=(row,))))
    return {"status": row.status, "marks": "; ".join(marks(section, row)), **spent, "failures": failed}


def claims(section: Section) -> Iterator[str]:
    """Say in a sentence which rows are not told apart from the best by the first metric that ranks."""
    for metric in section.metrics:
        stands = Standings(section, metric)
        if any(known.classes for known in stands.estimates):
            where, test = stands.standing, "new seeds and classes, 5 %, Holm"
            alone = [i for i, worse in enumerate(where.better) if len(worse) == _compared(stands) - 1 > 0]
            if where.tied:
                tied = ", ".join(row_name(section.rows[i]) for i in where.tied)
                yield f"Not told apart from the best by {metric} ({test}): {tied}."
            elif alone:
                yield f"Better than every other loss by {metric} ({test}): {row_name(section.rows[alone[0]])}."
            return


def _compared(stands: Standings) -> int:
    """Return how many trained rows there are that finished."""
    return sum(1 for row in stands.section.rows if row.finished and not row.is_reference)


def _table(section: Section, metrics: Sequence[str], by: Sequence[str]) -> Printed:
    stands = [Standings(section, metric) for metric in metrics]
    names = _named(section.rows, by, section.varying)
    letters = [letter(i) for i in range(len(section.rows))]
    marked = [", ".join(marks(section, row)) for row in section.rows]
    header = [*names, "row", *metrics, *COSTS, "seeds", *(["marks"] if any(marked) else []), "recipe", "protocol"]
    rows = []
    for i, row in enumerate(section.rows):
        cells = [Cell(str(getattr(row, name))) for name in names] + [Cell(letters[i])]
        cells += [value_cell(stand, i, letters) for stand in stands]
        said = (*cost_texts(row), seeds_text(row), *([marked[i]] if any(marked) else []))
        cells += [Cell(text) for text in (*said, row.runs[0].recipe_id, section.protocol_id)]
        rows.append(tuple(cells))
    numeric = tuple(name in (*metrics, *COSTS, "embedding_dim", "seeds") for name in header)
    return Printed(
        caption(section), tuple(header), numeric, tuple(rows), (*_notes(stands), *_marks(marked), *_failed(section))
    )


def _mixed(found: Sequence[Section], metrics: Sequence[str], by: Sequence[str]) -> Printed:
    pairs = [(section, i) for section in found for i in range(len(section.rows))]
    names = _named([section.rows[i] for section, i in pairs], by, ("backbone", "embedding_dim"))
    stands = {(id(section), metric): Standings(section, metric) for section in found for metric in metrics}
    marked = [", ".join(marks(section, section.rows[i])) for section, i in pairs]
    rows = []
    for (section, i), mark in zip(pairs, marked, strict=True):
        row = section.rows[i]
        cells = [Cell(str(getattr(row, name))) for name in names]
        cells += [Cell(section.dataset), Cell(section.protocol_id), Cell(section.selection)]
        known = [stands[id(section), metric].estimates[i] for metric in metrics]
        cells += [Cell(_text(metric, value)) for metric, value in zip(metrics, known, strict=True)]
        said = (*cost_texts(row), seeds_text(row), *([mark] if any(marked) else []), row.runs[0].recipe_id)
        rows.append((*cells, *map(Cell, said)))
    more = ("seeds", *(["marks"] if any(marked) else []), "recipe")
    header = (*names, "dataset", "protocol", "selection", *metrics, *COSTS, *more)
    numeric = tuple(name in (*metrics, *COSTS, "embedding_dim", "seeds") for name in header)
    notes = ["Rows of different protocols stand side by side and are not ranked.", INTERVAL, *_marks(marked)]
    return Printed("Several protocols", header, numeric, tuple(rows), (*notes, *(f for s in found for f in _failed(s))))


def across(found: Sequence[Section], metrics: Sequence[str] = ()) -> list[Printed]:
    """Return mean ranks over data sets, if two or more have three or more losses in common under one protocol each.

    Args:
        found: sections of one protocol each.
        metrics: the first that can rank does; if there are none, the first of those that runs have.
    """
    asked = dict.fromkeys(metrics or [name for section in found for name in section.metrics])
    ranked = ((metric, ranked_across(found, metric)) for metric in asked)
    metric, known = next(((name, result) for name, result in ranked if result), ("", None))
    if known is None:
        return []
    names, result = known.names, known.result
    rows = tuple((Cell(names[i]), Cell(f"{result.ranks[i]:.2f}")) for i in known.order)
    notes = [
        f"Over {', '.join(s.dataset for s in known.sections)}: Friedman p = {result.p:.3g}.",
        f"Ranks that differ by less than {result.critical:.2f} are not told apart (Nemenyi, 5 percent).",
        f"Told apart by Wilcoxon's signed ranks, corrected by Holm: {known.told}.",
    ]
    if known.left_out:
        notes.append(f"Not measured with the same options on all of them, so not ranked: {', '.join(known.left_out)}.")
    return [Printed(f"Across data sets: mean rank by {metric}", ("loss", "rank"), (False, True), rows, tuple(notes))]


COSTS = ("train s", "images/s", "peak MB", "parameters")
INTERVAL = "± is half of the 95 percent interval for new seeds and new test classes."
WORSE = "rows that are worse, by the test for new seeds and classes at 5 percent, corrected by Holm"


def _named(rows: Sequence[Row], by: Sequence[str], varying: Sequence[str]) -> list[str]:
    chosen = [name for name in by if name != "dataset"] or ["loss"]
    more = [name for name in varying if name not in chosen]
    options = ["options"] if "options" not in chosen and any(row.options for row in rows) else []
    names = [*chosen, *options, *more]
    alike = len({tuple(getattr(row, name) for name in names) for row in rows}) < len(rows)
    return [*chosen, "loss", *options, *more] if alike and "loss" not in chosen else names


def value_cell(stands: Standings, i: int, letters: Sequence[str]) -> Cell:
    """Return how a row does by a metric: bold if it is the best of what is claimed."""
    known, where = stands.estimates[i], stands.standing
    bold = known.seeds > 1 and not stands.section.rows[i].is_reference and known.mean == stands.best
    better = ranges(where.better[i], letters)
    return Cell(_text(stands.metric, known), bold=bold, tied=i in where.tied and not bold, letters=better)


def _text(metric: str, known: Estimate) -> str:
    scale = scale_of(metric)
    decimals = scale.decimals([known.mean])
    [mean] = scale.texts([known.mean], decimals)
    if math.isnan(known.half):
        return mean
    return f"{mean} ± {scale.texts([known.half], decimals)[0]}"


def costs(row: Row) -> tuple[float, ...]:
    """Return the costs of ``COSTS``, means over the finished runs; nan where no run says."""
    speed = [epoch.images_per_second for run in row.finished for epoch in run.curve]
    memory = [run.costs["peak_memory"] / 2**20 for run in row.finished if "peak_memory" in run.costs]
    size = [run.costs["parameters"] + run.costs["loss_parameters"] for run in row.finished if "parameters" in run.costs]
    return (row.train_seconds, *(sum(found) / len(found) if found else math.nan for found in (speed, memory, size)))


def cost_texts(row: Row) -> list[str]:
    """Write the costs of ``COSTS``."""
    forms = (".1f", ",.0f", ",.0f", ",.0f")
    return [MISSING if math.isnan(cost) else f"{cost:{form}}" for cost, form in zip(costs(row), forms, strict=True)]


def _notes(stands: Sequence[Standings]) -> Iterator[str]:
    yield INTERVAL
    yield f"Raised letters: {WORSE}."
    yield from caveats(stands)


def caveats(stands: Sequence[Standings]) -> Iterator[str]:
    """Say which numbers of a table rest on less than seeds and classes."""
    plain = [stand.metric for stand in stands if not any(e.classes for e in stand.estimates)]
    if plain:
        yield f"Interval for new seeds alone, and no ranks, for want of values per query: {', '.join(plain)}."
    if any(e.seeds > 1 and not e.classes for stand in stands if stand.metric not in plain for e in stand.estimates):
        yield "A row without values per query has an interval for new seeds alone, and no letters."
    if any(len(row.finished) == 1 and not row.is_reference for stand in stands[:1] for row in stand.section.rows):
        yield "n=1, no claim: one training says nothing of others."


def _marks(marked: Sequence[str]) -> list[str]:
    return [f"{mark.capitalize()}: {meaning}." for mark, meaning in MEANINGS.items() if mark in " ".join(marked)]


def _failed(section: Section) -> list[str]:
    return [f"Failed: {line}" for line in failures(section)]


def letter(number: int) -> str:
    """Name a row: a, b, ..., z, aa, ab, ..., zz, aaa."""
    before = letter(number // 26 - 1) if number >= 26 else ""
    return before + chr(97 + number % 26)


def neighbors(rows: Sequence[int]) -> list[list[int]]:
    """Group rising numbers by those that follow each other."""
    groups: list[list[int]] = []
    for row in rows:
        if groups and groups[-1][-1] == row - 1:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def ranges(rows: Sequence[int], letters: Sequence[str]) -> str:
    """Write the letters of rows, neighbors as a range: ``a,c-f``."""
    ends = [(letters[group[0]], letters[group[-1]]) for group in neighbors(rows)]
    return ",".join(first if first == last else f"{first}-{last}" for first, last in ends)
