"""Show how grids stand, while they run or afterwards. Loads no torch."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dml_bench.cli.app import app, terminal

if TYPE_CHECKING:
    from dml_bench.results.survey import Standing

PAUSE = 2.0
"""Seconds between two looks of ``--watch``."""

URGENT = ("running", "stale", "failed", "waiting", "done")
"""States in the order in which they are shown where there is no room for all runs."""

WIDE = 1000
"""Columns where nobody sees them: nothing is cut off in a file."""


@app.command(epilog="Example: dml-bench status runs/quickstart --watch")
def status(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS_DIR...", help="Folders of runs.")],
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again until all runs are done.")] = False,
) -> None:
    """Say of each run whether it waits, runs (where, epoch, loss, time left), is done or failed, and why."""
    console = terminal()
    if not console.is_terminal:
        console.width = WIDE
    if not watch or not console.is_terminal:
        while True:
            found = _look(runs)
            console.print(_page(found))
            if not watch or not _unfinished(found):
                return
            time.sleep(5 * PAUSE)
    with Live(console=console, auto_refresh=False) as live:
        while _unfinished(found := _look(runs)):
            live.update(_page(found, console.height), refresh=True)
            time.sleep(PAUSE)
        live.update(_page(found, console.height), refresh=True)


def _look(folders: Sequence[Path]) -> dict[Path, list[Standing]]:
    from dml_bench.results.survey import survey

    return {folder: survey(folder) for folder in folders}


def _unfinished(found: dict[Path, list[Standing]]) -> bool:
    return any(run.state in ("waiting", "running", "stale") for runs in found.values() for run in runs)


def _page(found: dict[Path, list[Standing]], height: int | None = None) -> Group:
    """Return what is shown; of more runs than ``height`` lines have room for, those that need looking at."""
    room = None if height is None else max(1, (height - 1) // len(found) - 3)
    return Group(*[part for folder, runs in found.items() for part in (_headline(folder, runs), *_rows(runs, room))])


def _rows(runs: Sequence[Standing], room: int | None) -> list[Table | Text]:
    if room is None or len(runs) <= room:
        return [_table(runs)]
    first = sorted(runs, key=lambda run: URGENT.index(run.state))[:room]
    counts = Counter[str](run.state for run in runs) - Counter[str](run.state for run in first)
    more = ", ".join(f"{counts[state]} {state}" for state in URGENT if counts[state])
    return [_table(first), Text(f"and {len(runs) - room} more: {more}")]


def _headline(folder: Path, runs: Sequence[Standing]) -> Text:
    counts = Counter[str](run.state for run in runs)
    states = sorted(URGENT)
    told = ", ".join(f"{counts[state]} {state}" for state in states if counts[state])
    return Text(f"{folder}: {len(runs)} runs, {told}")


def _table(runs: Sequence[Standing]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="")
    begun = any(run.state in ("running", "stale") for run in runs)
    for name in ("run", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("epoch", "loss", "images/s", "left") if begun else ():
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column()
    for run in runs:
        table.add_row(Text(run.label), run.state, *(_pace(run) if begun else ()), Text(_note(run)))
    return table


def _pace(run: Standing) -> tuple[str, str, str, str]:
    """Write how far a run is and how fast it goes, as far as it is known."""
    live = run.live if run.state in ("running", "stale") else {}
    epochs = f"/{live['epochs']}" if live.get("epochs") else ""
    return (
        f"{live['epoch']}{epochs}" if "epoch" in live else "",
        f"{live['loss']:.3f}" if "loss" in live else "",
        f"{live['images_per_second']:,.0f}" if "images_per_second" in live else "",
        duration(live["left"]) if live.get("left") is not None else "",
    )


def _note(run: Standing) -> str:
    """Say where a run is, or what came of it."""
    if run.state == "running" and run.holder:
        since = f", for {duration(time.time() - run.live['since'])}" if "since" in run.live else ""
        return (
            f"{run.live.get('phase', 'begins')}: process {run.holder.process.pid} on {run.holder.process.host}{since}"
        )
    if run.state == "stale" and run.holder:
        who = (
            f"process {run.holder.process.pid} on {run.holder.process.host}"
            if run.holder.process.pid
            else "its process"
        )
        return f"{who} is gone; the next run of the same command goes on with it"
    if run.record is None:
        return "interrupted" if run.live else ""
    if run.state == "failed":
        return run.record.reason.splitlines()[0] if run.record.reason else ""
    metrics = run.record.metrics
    return ", ".join(f"{m} {100 * metrics[m]:.1f}" for m in ("recall@1", "nmi") if m in metrics)


def duration(seconds: float) -> str:
    """Write a time as ``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
