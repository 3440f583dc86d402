"""The leaderboard of a section: rank, numbers with intervals, costs, and in words what is wrong with a row."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from dml_bench.reports.marks import marks
from dml_bench.reports.page.recipes import recipe_key
from dml_bench.reports.page.table import Column, Field, Line, Table, number
from dml_bench.reports.scales import MISSING, scale_of
from dml_bench.reports.standings import (
    COSTS,
    WORSE,
    Standings,
    caveats,
    cost_texts,
    costs,
    letter,
    ranges,
    value_cell,
)
from dml_bench.reports.summary import Row, Section
from dml_bench.reports.text import caption, notes, seeds_text

INTERVAL = "In brackets: the 95 percent interval for new seeds and new test classes."
TIED = "†: not told apart from the best; bold: the best of those about which something is claimed."
NAMED = ("backbone", "embedding_dim")


def leaderboard(section: Section, metrics: Sequence[str] = (), by: Sequence[str] = ()) -> Table:
    """Return the table of a section: the trained rows by rank, and below them those that were not trained.

    Args:
        section: of one data set and protocol.
        metrics: which to show; all if there are none.
        by: of ``NAMED``, what is a column even if all rows agree.
    """
    stands = [Standings(section, name) for name in (metrics or section.metrics) if name in section.metrics]
    more = [name for name in NAMED if name in section.varying or name in by]
    letters = [letter(i) for i in range(len(section.rows))]
    first = Standings(section, section.ranked_by) if section.ranked_by else None
    places = _places(section)
    lines = [
        (
            places[i],
            Field(letters[i], i),
            Field(row.loss),
            Field(row.options),
            *(_plain(getattr(row, name)) for name in more),
            Field("; ".join(_status(section, row))),
            *(_value(stand, i, letters) for stand in stands),
            _better(first, i, letters),
            Field(seeds_text(row), len(row.finished)),
            *(Field(text, value) for text, value in zip(cost_texts(row), costs(row), strict=True)),
            Field(row.runs[0].recipe_id, recipe=recipe_key(row)),
        )
        for i, row in enumerate(section.rows)
    ]
    kinds = ["reference" if row.is_reference else row.status for row in section.rows]
    rows = [Line(fields, kind) for fields, kind in zip(lines, kinds, strict=True)]
    trained = tuple(row for row in rows if row.kind != "reference")
    said = (INTERVAL, TIED, *_worse(section), *caveats(stands), *notes(section))
    return Table(caption(section), tuple(_columns(section, stands, more)), trained, tuple(rows[len(trained) :]), said)


def _columns(section: Section, stands: Sequence[Standings], more: Sequence[str]) -> Iterator[Column]:
    yield from (Column("rank", True, now="ascending"), Column("row", True))
    yield from (Column("loss", named=True, header=True), Column("options", named=True))
    yield from (Column(name, name == "embedding_dim", named=True) for name in more)
    yield Column("status", named=True)
    for stand in stands:
        yield Column(stand.metric, True, "ascending" if scale_of(stand.metric).better == "lower" else "descending")
    yield from (Column("better than", True, "descending"), Column("seeds", True, "descending"))
    yield from (Column(name, True) for name in COSTS)
    yield Column("recipe", named=True)


def _places(section: Section) -> list[Field]:
    """Return the places of trained rows by their mean; equal means share one."""
    badness = scale_of(section.ranked_by).badness
    known = [math.inf if row.is_reference else badness(row.mean(section.ranked_by)) for row in section.rows]
    ordered = sorted(known)
    places = [1 + bisect_left(ordered, bad) for bad in known]
    return [Field(MISSING) if math.isinf(bad) else Field(str(i), i) for bad, i in zip(known, places, strict=True)]


def _plain(value: str | int) -> Field:
    return number(value, "d") if isinstance(value, int) else Field(value)


def _value(stand: Standings, i: int, letters: Sequence[str]) -> Field:
    known, cell, scale = stand.estimates[i], value_cell(stand, i, letters), scale_of(stand.metric)
    decimals = scale.decimals([known.mean])
    interval = "" if math.isnan(known.low) else f"[{', '.join(scale.texts((known.low, known.high), decimals))}]"
    return Field(scale.texts([known.mean], decimals)[0], known.mean, interval, cell.bold, cell.tied)


def _better(stand: Standings | None, i: int, letters: Sequence[str]) -> Field:
    worse = stand.standing.better[i] if stand else ()
    return Field(ranges(worse, letters).replace(",", ", ") or MISSING, len(worse))


def _worse(section: Section) -> Iterator[str]:
    if section.ranked_by:
        yield f"Better than: {WORSE}, by {section.ranked_by}."


def _status(section: Section, row: Row) -> Iterator[str]:
    """Say what a reader must know of a row before its numbers."""
    if row.is_reference:
        yield "reference, not trained"
        return
    reasons = dict.fromkeys(run.reason or "no reason recorded" for run in row.runs if run.status == "failed")
    yield f"{row.status}: {' / '.join(reasons)}" if reasons else row.status
    yield from marks(section, row)
