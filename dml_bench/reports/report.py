"""Write a report folder: the tables first, then the pictures, each file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from dml_bench.errors import ResultsError
from dml_bench.reports.reported import reported_tables
from dml_bench.reports.summary import long_table, summary_table
from dml_bench.reports.text import to_csv, to_markdown
from dml_bench.results.record import RunRecord


def write_report(
    records: Sequence[RunRecord], folder: Path, *, pictures: bool = True, reported: bool = False
) -> list[Path]:
    """Write ``results.csv``, ``summary.csv``, ``summary.md`` and the pictures (PNG and SVG) that apply.

    Args:
        records: the runs to compare.
        folder: made if it is missing; files of an earlier report are replaced one by one, and pictures of it that no
            longer apply go.
        pictures: whether to draw as well.
        reported: whether to write ``reported.csv`` and ``reported.md``, our rows beside published figures.

    Returns:
        The files written, in order.

    Raises:
        ResultsError: when there is no record, when two records contradict each other, or when the folder cannot be
            written.
    """
    if not records:
        raise ResultsError(f"{folder}: nothing to report: there is no run record")
    tables = {
        "results.csv": to_csv(long_table(records)),
        "summary.csv": to_csv(summary_table(records)),
        "summary.md": to_markdown(records),
    }
    if reported:
        tables |= reported_tables(records)
    written = [_publish(folder / name, text.encode()) for name, text in tables.items()]
    _remove({folder / name for name in ("reported.csv", "reported.md")} - {folder / name for name in tables})
    if pictures:
        # Here, because importing matplotlib takes longer than writing the tables.
        from dml_bench.reports.plots import PICTURES, draw

        written += [_publish(folder / name, content) for name, content in draw(records)]
        _remove({folder / f"{name}.{kind}" for name in PICTURES for kind in ("png", "svg")} - set(written))
    return written


def _publish(path: Path, content: bytes) -> Path:
    """Write a file by one rename, so that a reader never sees half of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise ResultsError(f"{path.parent}: the report cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return path


def _remove(stale: Iterable[Path]) -> None:
    """Remove what an earlier report wrote and this one does not, which would pass for a part of this one."""
    for path in stale:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ResultsError(f"{path}: an old file cannot be removed: {error.strerror or error}") from error
