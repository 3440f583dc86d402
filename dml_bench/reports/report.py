"""Write a report folder: the tables first, then the pictures, each file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd

from dml_bench.errors import DmlBenchError, ResultsError
from dml_bench.reports.html import to_html_fragment
from dml_bench.reports.latex import to_latex
from dml_bench.reports.markdown import printed_markdown
from dml_bench.reports.page import to_html
from dml_bench.reports.reported import reported_tables
from dml_bench.reports.standings import check_names, lines, tables
from dml_bench.reports.summary import Section, long_table, sections, summary_table
from dml_bench.reports.text import to_csv, to_markdown
from dml_bench.results.record import RunRecord

FILES = {
    "csv": "comparison.csv",
    "md": "comparison.md",
    "latex": "comparison.tex",
    "html-fragment": "comparison.html",
    "html": "report.html",
}
FORMATS = tuple(FILES)
"""Formats of the comparison; the first two are written unless others are asked for, ``html`` is a page of its own."""


def write_report(
    records: Sequence[RunRecord],
    folder: Path,
    *,
    pictures: bool = True,
    reported: bool = False,
    formats: Sequence[str] = FORMATS[:2],
    metrics: Sequence[str] = (),
    by: Sequence[str] = (),
    mixed: bool = False,
    extra: Iterable[tuple[str, bytes]] = (),
) -> list[Path]:
    """Write ``results.csv``, ``summary.csv``, ``summary.md``, the comparison and the pictures (PNG, SVG) that apply.

    The comparison is a table with intervals, ties and who is better than whom.

    Args:
        records: the runs to compare.
        folder: made if it is missing; files of an earlier report are replaced one by one, and pictures of it that are
            not drawn again go.
        pictures: whether to draw as well.
        formats: of the comparison; see ``FORMATS``. ``html`` is one page of everything, pictures in it.
        metrics: of the comparison; all if there are none.
        by: what names the comparison's rows; see ``standings.tables``.
        mixed: whether the comparison has rows of different protocols in one table, without ranks.
        reported: whether to write ``reported.csv`` and ``reported.md``, our rows beside published figures.
        extra: further pictures, name and content, such as ``retrieval.gallery.galleries`` gives, asked for last.

    Returns:
        The files written, in order.

    Raises:
        ResultsError: when there is no record, when two records contradict each other, or when the folder cannot be
            written.
        DmlBenchError: see ``check_wanted``.
    """
    if not records:
        raise ResultsError(f"{folder}: nothing to report: there is no run record")
    found = sections(records)
    check_wanted(found, formats, metrics, by)
    texts = {
        "results.csv": to_csv(long_table(records)),
        "summary.csv": to_csv(summary_table(records)),
        "summary.md": to_markdown(records),
    }
    texts |= _comparison(found, formats, metrics, by, mixed)
    if reported:
        texts |= reported_tables(records)
    written = [publish(folder / name, text.encode()) for name, text in texts.items()]
    drawn: dict[str, bytes] = {}
    if pictures:
        # Here, because importing matplotlib takes longer than writing the tables.
        from dml_bench.reports.plots import draw

        drawn = dict(draw(records))
    drawn |= dict(extra)
    written += [publish(folder / name, content) for name, content in drawn.items()]
    _remove(set(_pictures_in(folder)) - set(written))
    if "html" in formats:
        page = to_html(records, drawn, metrics=metrics, by=by, mixed=mixed, when=_when(records))
        written.append(publish(folder / FILES["html"], page.encode()))
    _remove({folder / name for name in ("reported.csv", "reported.md", *FILES.values())} - set(written))
    return written


def check_wanted(found: Sequence[Section], formats: Sequence[str], metrics: Sequence[str], by: Sequence[str]) -> None:
    """Refuse what ``write_report`` cannot do, before anything is shown or written.

    Raises:
        DmlBenchError: for no format or an unknown one, a metric that no run has, or an unknown name in ``by``.
    """
    if not formats:
        raise DmlBenchError(f"--format: names nothing to write; allowed are {', '.join(FORMATS)}")
    for name in formats:
        if name not in FILES:
            raise DmlBenchError(f"--format {name}: must be among {', '.join(FORMATS)}")
    check_names(found, metrics, by)


def _when(records: Sequence[RunRecord]) -> str:
    """Say when the runs were published, as their files tell."""
    stamps = [(run.folder / "record.json").stat().st_mtime for run in records if run.folder]
    days = sorted({datetime.fromtimestamp(stamp, timezone.utc).date().isoformat() for stamp in stamps})
    return f"{' to '.join(dict.fromkeys((days[0], days[-1])))}, by the dates of the records" if days else ""


def _comparison(
    found: Sequence[Section], formats: Sequence[str], metrics: Sequence[str], by: Sequence[str], mixed: bool
) -> dict[str, str]:
    """Return the files of the comparison."""
    printed = tables(found, metrics, by, mixed)
    makers: dict[str, Callable[[], str]] = {
        "csv": lambda: pd.DataFrame(lines(found, metrics, mixed)).to_csv(index=False, lineterminator="\n"),
        "md": lambda: "# Comparison\n\n" + printed_markdown(printed),
        "latex": lambda: to_latex(printed),
        "html-fragment": lambda: to_html_fragment(printed),
    }
    return {FILES[name]: makers[name]() for name in formats if name in makers}


def publish(path: Path, content: bytes, what: str = "the report") -> Path:
    """Write a file by one rename, so that a reader never sees half of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise ResultsError(f"{path.parent}: {what} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return path


def _pictures_in(folder: Path) -> list[Path]:
    """Return what may be pictures of a report; matplotlib is loaded only if there are any."""
    found = [path for path in folder.iterdir() if path.suffix in (".png", ".svg")]
    if not found:
        return []
    from dml_bench.reports.plots import may_be_stale

    return [path for path in found if may_be_stale(path.name)]


def _remove(stale: Iterable[Path]) -> None:
    """Remove what an earlier report wrote and this one does not, which would pass for a part of this one."""
    for path in stale:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ResultsError(f"{path}: an old file cannot be removed: {error.strerror or error}") from error
