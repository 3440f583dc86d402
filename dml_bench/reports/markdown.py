"""Tables and names in Markdown and CSV, safe against marks in names."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence


def escape(text: str) -> str:
    """Keep Markdown and HTML from reading marks into a name; an underscore inside a word is safe as it is."""
    flat = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"[\\|`*\[\]]|(?<!\w)_|_(?!\w)", r"\\\g<0>", flat)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = ()) -> str:
    """Write a Markdown table; the columns named in ``numbers`` are set to the right."""
    lines = [header, ["---:" if name in numbers else "---" for name in header]]
    lines += [[escape(cell) for cell in row] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def csv_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a CSV table with one line end everywhere."""
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(header)
    table.writerows(rows)
    return stream.getvalue()
