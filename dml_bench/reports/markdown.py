"""Tables and names in Markdown, safe against marks in names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from dml_bench.reports.printed import TIED_MARK, TIED_MEANING, Cell, Printed

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Control characters, line separators, and what turns the direction of writing."""


def escape(text: str) -> str:
    """Keep Markdown and HTML from reading marks into a name, and GitHub from reading maths and struck text.

    An underscore inside a word is safe as it is.
    """
    flat = printable(" ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"[\\|`*\[\]$~]|(?<!\w)_|_(?!\w)", r"\\\g<0>", flat)


def printable(text: str) -> str:
    """Write out control characters, which a terminal would obey, by their number in hexadecimal."""
    return CONTROL.sub(lambda found: f"\\x{code:02x}" if (code := ord(found[0])) < 256 else f"\\u{code:04x}", text)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = ()) -> str:
    """Write a Markdown table; the columns named in ``numbers`` are set to the right."""
    lines = [header, ["---:" if name in numbers else "---" for name in header]]
    lines += [[escape(cell) for cell in row] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def printed_markdown(tables: Sequence[Printed]) -> str:
    """Write printed tables as Markdown: the best bold, a mark where a value is not told apart from it."""
    return "\n".join(map(_one, tables))


def _one(table: Printed) -> str:
    lines = [map(escape, table.columns), ("---:" if number else "---" for number in table.numeric)]
    lines += [map(_cell, row) for row in table.rows]
    notes = [*table.notes, *([f"{TIED_MARK} {TIED_MEANING}."] if table.has_ties else [])]
    body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"## {escape(table.title)}\n\n{body}" + "".join(f"\n{escape(note)}\n" for note in notes)


def _cell(cell: Cell) -> str:
    text = f"**{escape(cell.text)}**" if cell.bold else escape(cell.text)
    text = f"[{text}]({quote(cell.link)})" if cell.link else text
    raised = f" <sup>{escape(cell.letters)}</sup>" if cell.letters else ""
    return f"{text}{f' {TIED_MARK}' if cell.tied else ''}{raised}"
