"""What a person sees while a grid runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dml_bench.recipe.check import Run

PAUSE = 5.0
"""Seconds between two plain lines about one run."""


class GridProgress:
    """Show a grid of ``total`` runs; use as a context manager and feed it events."""

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total, self._done = console, total, 0
        names = ("{task.description}", "{task.fields[epoch]}", "{task.fields[loss]}", "{task.fields[pace]}")
        columns = (
            *map(TextColumn, names),
            BarColumn(12),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=console, transient=True, speed_estimate_period=600)
        self._grid = self._bars.add_task("all runs", total=total, epoch=f"0/{total}", loss="", pace="")
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, float] = {}
        self._parts: dict[str, float] = {}

    def __enter__(self) -> GridProgress:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def show(self, run: Run, event: Mapping[str, Any]) -> None:
        """Take one event of a run in."""
        if event["event"] == "done":
            self._finish(run, event)
        elif event["event"] == "step":
            self._move(run, event)
        elif event["event"] == "warning":
            self._print(f"         {describe(run)}: {event['line']}")
        elif event["event"] == "resumed":
            self._print(f"         {describe(run)}: goes on after step {event['steps']}")
        elif event["event"] == "phase" and run.run_id in self._tasks:
            self._bars.update(self._tasks[run.run_id], pace=event["phase"])

    def _move(self, run: Run, event: Mapping[str, Any]) -> None:
        epochs = run.recipe.training.epochs if run.recipe.training else 1
        told: dict[str, Any] = {
            "epoch": f"epoch {event['epoch']}{f'/{epochs}' if epochs else ''}",
            "loss": f"loss {event['loss']:.3f}",
            "pace": f"{event['images_per_second']:,.0f} images/s",
        }
        done = event["epoch"] - 1 + event["step"] / event["steps"]
        if run.run_id not in self._tasks:
            self._tasks[run.run_id] = self._bars.add_task(describe(run), total=epochs, completed=0, **told)
            self._parts[run.run_id] = 0.0
        self._bars.update(self._tasks[run.run_id], completed=done, **told)
        if epochs:
            self._parts[run.run_id] = min(1.0, done / epochs)
            self._show_grid()
        if not self._console.is_terminal and time.monotonic() - self._told.get(run.run_id, 0) > PAUSE:
            self._told[run.run_id] = time.monotonic()
            self._print(f"         {describe(run)}: {'  '.join(told.values())}")

    def _finish(self, run: Run, event: Mapping[str, Any]) -> None:
        self._done += 1
        self._parts.pop(run.run_id, None)
        self._show_grid()
        if run.run_id in self._tasks:
            self._bars.remove_task(self._tasks.pop(run.run_id))
        by = " (by another command)" if event.get("elsewhere") else ""
        self._print(f"[{self._done:{len(str(self._total))}}/{self._total}] {describe(run)}: {_outcome(event)}{by}")

    def _show_grid(self) -> None:
        """Count runs that go on by the part of them that is done, so that the time left of all is known early."""
        done = self._done + sum(self._parts.values())
        self._bars.update(self._grid, completed=done, epoch=f"{self._done}/{self._total}")

    def _print(self, text: str) -> None:
        self._console.print(escape(text), highlight=False, soft_wrap=True)


def _outcome(event: Mapping[str, Any]) -> str:
    if event["status"] == "failed":
        return f"FAILED: {event['reason']}"
    metrics = event["metrics"]
    return ", ".join(f"{m} {100 * metrics[m]:.1f}" for m in ("recall@1", "nmi") if m in metrics) or "ok"


def describe(run: Run) -> str:
    """Name a run by its method, options and seed."""
    options = " ".join(f"{key}={value}" for key, value in run.options.items())
    size = f"dim {run.recipe.embedding.dim}" if run.recipe.embedding and run.recipe.embedding.dim else ""
    return " ".join(filter(None, [run.method, options, size, f"seed {run.recipe.seed}"]))
