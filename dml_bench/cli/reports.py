"""What ``run`` and ``report`` share: tables on the terminal, and the report's files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from dml_bench.cli.app import note

if TYPE_CHECKING:
    from dml_bench.results.record import RunRecord


def write(console: Console, records: Sequence[RunRecord], folder: Path, **how: Any) -> None:
    """Print the tables, and write the report as ``write_report`` does; what it cannot do is refused first."""
    from dml_bench.reports.report import FORMATS, check_wanted, write_report
    from dml_bench.reports.standings import claims
    from dml_bench.reports.summary import sections
    from dml_bench.reports.text import print_table

    found = sections(records)
    if found:
        check_wanted(found, how.get("formats", FORMATS), how.get("metrics", ()), how.get("by", ()))
    print_table(console, records)
    for section in found:
        for line in claims(section):
            note(console, line)
    written = write_report(records, folder, **how)
    note(console, f"Report: {folder} ({len(written)} files)")


def galleries(
    console: Console, records: Sequence[RunRecord], data_root: Path | None = None
) -> Iterator[tuple[str, bytes]]:
    """Draw queries and what is found for them, and say where that cannot be done."""
    finished = [run for run in records if run.status == "ok"]
    if not any(map(_kept_enough, finished)):
        if finished:
            note(console, "No galleries: no run has its embeddings here (embeddings.npz).")
        return
    from dml_bench.retrieval.pictures import shown  # torch, where a report has none otherwise

    yield from shown(records, data_root, partial(note, console))


def _kept_enough(run: RunRecord) -> bool:
    """Tell whether a run has what a gallery is made of, or a scatter, which shows two dimensions."""
    files = ("embeddings.npz", *(("checkpoint.pt",) if run.embedding_dim == 2 else ()))
    return run.folder is not None and any((run.folder / name).exists() for name in files)
