"""Published figures beside ours."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dml_bench.reports.page.table import Column, Field, Line, Table
from dml_bench.reports.reported import EXPLANATION, SHOWN, beside_reported, closest, reported_cells
from dml_bench.reports.summary import Row, Section
from dml_bench.reports.text import caption
from dml_bench.reports.verdicts import Comparison

NUMBERS = ("ours", "reported", "deviation", "z")


def published(found: Sequence[Section]) -> list[tuple[Table, Table]]:
    """Return, for each section that the ledger has figures for, the closest figures and all of them."""
    tables = []
    for section in found:
        pairs = [(row, comparison) for row, several in beside_reported(section) for comparison in several]
        if pairs:
            near = closest(pairs)
            tables.append(
                (
                    _table(f"{caption(section)}: the closest figures", near, (EXPLANATION,)),
                    _table(f"{caption(section)}: every figure", pairs),
                )
            )
    return tables


def _table(title: str, pairs: Sequence[tuple[Row, Comparison]], notes: tuple[str, ...] = ()) -> Table:
    columns = tuple(
        Column(name, name in NUMBERS, named=name not in NUMBERS, header=not i) for i, name in enumerate(SHOWN)
    )
    return Table(title, columns, tuple(Line(_fields(row, comparison)) for row, comparison in pairs), (), notes)


def _fields(row: Row, comparison: Comparison) -> tuple[Field, ...]:
    values = (comparison.ours.mean, comparison.figure.share, comparison.deviation, comparison.z)
    numbers = dict(zip(NUMBERS, values, strict=True))
    cells = zip(SHOWN, reported_cells(row, comparison), strict=True)
    return tuple(Field(text, numbers.get(name, math.nan)) for name, text in cells)
