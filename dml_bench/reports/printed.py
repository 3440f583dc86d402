"""A table as it is printed, whatever the format: the texts of its cells, and what is said of them."""

from __future__ import annotations

from dataclasses import dataclass

TIED_MARK = "†"
TIED_MEANING = "not told apart from the best"


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: plain text; every format escapes it its own way.
        bold: whether it is the best of its column.
        tied: whether it is not told apart, statistically, from the best; shown by a mark, not by a colour.
        letters: letters of the rows that this one is better than; shown raised.
        link: where the text leads, a path or address; formats without links leave it out.
    """

    text: str
    bold: bool = False
    tied: bool = False
    letters: str = ""
    link: str = ""


@dataclass(frozen=True)
class Printed:
    """One table; the first column names its rows.

    Attributes:
        title: what is compared, such as the data set and protocol.
        columns: one title per column.
        numeric: per column, whether it holds numbers, which stand flush right.
        rows: as many cells each as there are columns.
        notes: what a reader must know, one sentence or more each, below the table.
    """

    title: str
    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...]

    @property
    def has_ties(self) -> bool:
        """Whether any cell bears the mark that asks for an explanation."""
        return any(cell.tied for row in self.rows for cell in row)
