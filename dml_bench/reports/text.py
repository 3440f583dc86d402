"""Tables as text: CSV for programs, Markdown for pages, and the same table for a terminal."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dml_bench.evaluation.scores import SPREAD
from dml_bench.recipe.identity import RULES
from dml_bench.reports.markdown import escape
from dml_bench.reports.measured import of_queries
from dml_bench.reports.scales import MISSING, scale_of
from dml_bench.reports.summary import Row, Section, sections
from dml_bench.results.record import RunRecord

EXPLANATION = (
    "Percent on the test classes, mean ± sample standard deviation over seeds. The best of each column is bold, among "
    "rows with two seeds or more, and not by nmi and others that are not read off single queries, which rank nothing. "
    "Reference rows stand last and are never bold. Rows of different tables must not be compared."
)
OPTIONS_WIDTH = 28
"""Characters to which the options column may shrink in a terminal; it folds, numbers never do."""
GAP = 2
"""Characters between two columns: one of padding, one of the (invisible) divider."""


@dataclass(frozen=True)
class Column:
    """One column of a printed table; ``best`` says which cells are bold."""

    title: str
    cells: tuple[str, ...]
    best: tuple[bool, ...] = ()
    is_number: bool = True

    @property
    def width(self) -> int:
        """Characters of the widest cell."""
        return max(map(cell_len, (self.title, *self.cells)))


def to_csv(table: pd.DataFrame) -> str:
    """Write a table as CSV: full precision, missing values empty, one line end everywhere."""
    return table.to_csv(index=False, lineterminator="\n")


def to_markdown(records: Sequence[RunRecord]) -> str:
    """Write one Markdown table per data set and protocol, with the failed runs and their reasons below it.

    Raises:
        ResultsError: when two different records claim to be the same run.
    """
    return "# Comparison\n\n" + EXPLANATION + "\n" + "".join(map(_markdown_section, sections(records)))


def print_table(console: Console, records: Sequence[RunRecord]) -> None:
    """Print the tables of ``to_markdown``.

    A terminal gets the columns that fit its width and a line naming those left out; a file or pipe gets all.

    Raises:
        ResultsError: when two different records claim to be the same run.
    """
    for section in sections(records):
        columns = _columns(section)
        kept = _fitting(columns, console.width) if console.is_terminal else columns
        table = _rich_table(kept)
        table.width = _width(kept)
        if console.is_terminal:
            table.width = max(_width(kept, OPTIONS_WIDTH), min(table.width, console.width))
        _say(console, caption(section), "bold")
        console.print(table, crop=False, no_wrap=True, overflow="ignore")
        failed = (f"Failed: {line}" for line in failures(section))
        for line in (*_left_out(columns, kept), *notes(section), *failed):
            _say(console, line)


def _columns(section: Section) -> list[Column]:
    rows = section.rows
    texts = {"loss": [row.loss for row in rows], "options": [row.options for row in rows]}
    texts |= {name: [str(getattr(row, name)) for row in rows] for name in section.varying}
    columns = [Column(name, tuple(cells), is_number=False) for name, cells in texts.items() if any(cells)]
    columns += [_metric_column(rows, name) for name in section.metrics]
    seconds = tuple(_number(row.train_seconds) for row in rows)
    return [*columns, Column("seeds", tuple(map(seeds_text, rows))), Column("train s", seconds)]


def _metric_column(rows: Sequence[Row], name: str) -> Column:
    scale, values = scale_of(name), [row.mean(name) for row in rows]
    decimals = scale.decimals(values)
    means, spreads = scale.texts(values, decimals), scale.texts([row.std(name) for row in rows], decimals)
    cells = [mean if std == MISSING else f"{mean} ± {std}" for mean, std in zip(means, spreads, strict=True)]
    ranked = [of_queries(name) and not math.isnan(row.std(name)) and not row.is_reference for row in rows]
    top = scale.best([float(mean) for mean, known in zip(means, ranked, strict=True) if known])
    # Ties are judged as printed: a reader must not wonder why one of two equal numbers is bold.
    best = (known and float(mean) == top for mean, known in zip(means, ranked, strict=True))
    return Column(name, tuple(cells), tuple(best))


def seeds_text(row: Row) -> str:
    """Say how many seeds a row rests on, and that one allows no claim."""
    if len(row.finished) != 1 or row.is_reference:
        return row.seeds
    return f"{'n=1' if row.status == 'ok' else row.seeds}, no claim"


def _number(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.1f}"


def caption(section: Section) -> str:
    """Name a section: data set, protocol, and what its rows share."""
    compared = [row for row in section.rows if not row.is_reference] or section.rows
    same = {"backbone": compared[0].backbone, "embedding_dim": f"{compared[0].embedding_dim} dimensions"}
    shared = [text for name, text in same.items() if name not in section.varying]
    rule = [] if section.selection == RULES["selection"] else [section.selection]
    return ", ".join([f"{section.dataset}: protocol {section.protocol_id}", *shared, *rule])


def notes(section: Section) -> Iterator[str]:
    """Say how the numbers of a table are to be read, and what its runs were not all made with."""
    yield from _directions(section.metrics)
    for name in section.metrics:
        scale, spreads = scale_of(name), [row.mean(name + SPREAD) for row in section.rows]
        known = [spread for spread in spreads if not math.isnan(spread)]
        if known:
            low, high = scale.texts((min(known), max(known)), scale.decimals(known))
            span = (low if low == high else f"{low} to {high}") + (" points" if scale.percent else "")
            yield f"k-means ± {span}: the standard deviation of {name} over k-means restarts, within a run."
    yield from _differences(section)


def _directions(metrics: Sequence[str]) -> Iterator[str]:
    """Name the metrics that are not read as most are: in percent, and the higher the better."""
    scales = {name: scale_of(name) for name in metrics}
    groups = {
        "Lower is better": [name for name, scale in scales.items() if scale.better == "lower"],
        "Neither higher nor lower is better": [name for name, scale in scales.items() if scale.better is None],
        "Not in percent": [name for name, scale in scales.items() if not scale.percent],
    }
    yield from (f"{what}: {', '.join(names)}." for what, names in groups.items() if names)


def _differences(section: Section) -> Iterator[str]:
    """Name what the compared runs were not all made with."""
    runs = [run for row in section.rows for run in row.runs if run.environment]
    for name in ("dml_bench", "torch", "device"):
        found = {str({**run.environment, **run.environment.get("packages", {})}.get(name)) for run in runs}
        if len(found) > 1:
            yield f"These runs differ in {name}: {', '.join(sorted(found))}."


def failures(section: Section) -> Iterator[str]:
    """Say which runs failed, and why."""
    for row in section.rows:
        seeds: dict[str, list[str]] = defaultdict(list)
        for run in row.runs:
            if run.status == "failed":
                seeds[run.reason or "no reason recorded"].append(str(run.seed))
        name = ", ".join(filter(None, (row.loss, row.options)))
        for reason, failed in seeds.items():
            yield f"{name}, seed {' '.join(failed)}: {reason}"


def _markdown_section(section: Section) -> str:
    columns = _columns(section)
    lines = [
        _markdown_line([column.title for column in columns]),
        _markdown_line(["---:" if column.is_number else "---" for column in columns]),
    ]
    for i in range(len(section.rows)):
        shown = [(escape(column.cells[i]), bool(column.best) and column.best[i]) for column in columns]
        lines.append(_markdown_line([f"**{text}**" if bold else text for text, bold in shown]))
    said = [escape(note) for note in notes(section)]
    failed = "\n".join(f"- {escape(line)}" for line in failures(section))
    blocks = [f"## {escape(caption(section))}", "\n".join(lines), *said, failed and f"Failed:\n\n{failed}"]
    return "".join(f"\n{block}\n" for block in blocks if block)


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _width(columns: Sequence[Column], options: int = 10**6) -> int:
    """Return the characters a table needs when the options column may take at most ``options``."""
    return sum(GAP + (min(c.width, options) if c.title == "options" else c.width) for c in columns) - GAP


def _fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """Drop metrics until the table fits: deep recalls first, then what is not recall@1 or nmi."""
    spare = [c for c in columns if c.best and c.title not in ("recall@1", "nmi")]
    deep = [c for c in spare if c.title.startswith("recall@")]
    kept = list(columns)
    for column in [*reversed(deep), *reversed([c for c in spare if c not in deep])]:
        if _width(kept, OPTIONS_WIDTH) > width:
            kept.remove(column)
    return kept


def _left_out(columns: Sequence[Column], kept: Sequence[Column]) -> Iterator[str]:
    names = [column.title for column in columns if column not in kept]
    if names:
        yield f"Too narrow to show {', '.join(names)}; the report has them."


def _rich_table(columns: Sequence[Column]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(
            Text(column.title),
            justify="right" if column.is_number else "left",
            no_wrap=column.title != "options",
            overflow="fold",
        )
    for i in range(len(columns[0].cells)):
        bold = [bool(column.best) and column.best[i] for column in columns]
        table.add_row(*(Text(c.cells[i], style="bold" if b else "") for c, b in zip(columns, bold, strict=True)))
    return table


def _say(console: Console, line: str, style: str = "") -> None:
    console.print(Text(" ".join(line.split()), style=style), soft_wrap=not console.is_terminal)
