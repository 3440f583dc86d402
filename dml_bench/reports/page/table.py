"""A table of the page: what a cell says, and what sorts it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from dml_bench.reports.printed import Printed
from dml_bench.reports.scales import MISSING

Order = Literal["ascending", "descending"]


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        title: its text.
        number: whether it sorts by numbers and stands flush right.
        first: how it sorts when it is first asked to.
        now: how it is sorted when the page opens; empty if it is not.
        named: whether the filter looks at it.
        header: whether its cells name their rows.
    """

    title: str
    number: bool = False
    first: Order = "ascending"
    now: Order | Literal[""] = ""
    named: bool = False
    header: bool = False


@dataclass(frozen=True)
class Field:
    """One cell.

    Attributes:
        text: what it says.
        value: what sorts it among numbers; nan sorts last.
        small: a second line, such as an interval.
        bold: whether it is the best.
        tied: whether it is not told apart from the best; shown by a mark, not by a colour.
        recipe: the key of the recipe that can be copied here, if there is one.
    """

    text: str
    value: float | int = math.nan
    small: str = ""
    bold: bool = False
    tied: bool = False
    recipe: str = ""

    @property
    def sorts(self) -> str:
        """The number that sorts it; empty if there is none."""
        return "" if math.isnan(self.value) else repr(self.value)


@dataclass(frozen=True)
class Line:
    """One row; ``kind`` is a word for its look, such as ``failed``."""

    fields: tuple[Field, ...]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        title: its caption.
        columns: at least one of which names the rows.
        lines: as many cells each as there are columns.
        last: rows that stay below the others however these are sorted.
        notes: what a reader must know, below the table.
    """

    title: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    last: tuple[Line, ...] = ()
    notes: tuple[str, ...] = ()


def number(value: float | int, form: str = ",.0f") -> Field:
    """Return the cell of a number; nan is a dash."""
    return Field(MISSING if math.isnan(value) else f"{value:{form}}", value)


def of_printed(printed: Printed) -> Table:
    """Return a printed table as one that sorts, by the number that each numeric cell begins with."""
    titles = zip(printed.columns, printed.numeric, strict=True)
    columns = tuple(
        Column(title, numeric, named=not numeric, header=not i) for i, (title, numeric) in enumerate(titles)
    )
    lines = [
        Line(tuple(Field(cell.text, _first(cell.text), bold=cell.bold, tied=cell.tied) for cell in row))
        for row in printed.rows
    ]
    return Table(printed.title, columns, tuple(lines), (), printed.notes)


def _first(text: str) -> float:
    try:
        return float(text.split()[0].replace(",", ""))
    except (IndexError, ValueError):
        return math.nan
