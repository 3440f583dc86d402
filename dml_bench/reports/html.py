"""Printed tables as HTML without style or script: a fragment for a page that has its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from urllib.parse import quote

from dml_bench.reports.printed import TIED_MARK, TIED_MEANING, Cell, Printed


def to_html_fragment(tables: Sequence[Printed]) -> str:
    """Write one ``<section>`` per table, the first cell of each row as the header of the row.

    Cells and titles of numeric columns are of the class ``number``, for the page to align.
    """
    return "".join(f"{line}\n" for table in tables for line in _section(table))


def _section(table: Printed) -> Iterator[str]:
    yield from ("<section>", "<table>", f"<caption>{escape(table.title)}</caption>", "<thead>", "<tr>")
    for title, numeric in zip(table.columns, table.numeric, strict=True):
        yield f'<th scope="col"{_class(numeric)}>{escape(title)}</th>'
    yield from ("</tr>", "</thead>", "<tbody>")
    for row in table.rows:
        yield "<tr>"
        for i, (cell, numeric) in enumerate(zip(row, table.numeric, strict=True)):
            begin, end = ("td", "td") if i else ('th scope="row"', "th")
            yield f"<{begin}{_class(numeric)}>{_content(cell)}</{end}>"
        yield "</tr>"
    yield from ("</tbody>", "</table>", *(f"<p>{escape(note)}</p>" for note in table.notes), "</section>")


def _class(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def _content(cell: Cell) -> str:
    text = f"<strong>{escape(cell.text)}</strong>" if cell.bold else escape(cell.text)
    text = f'<a href="{escape(quote(cell.link))}">{text}</a>' if cell.link else text
    tied = f'<abbr title="{TIED_MEANING}">{TIED_MARK}</abbr>' if cell.tied else ""
    return text + tied + (f"<sup>{escape(cell.letters)}</sup>" if cell.letters else "")
