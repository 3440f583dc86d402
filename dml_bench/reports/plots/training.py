"""The loss while training."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dml_bench.reports.plots.canvas import NARROW, Looks, named, of_the_first, panels
from dml_bench.reports.style import Look
from dml_bench.reports.summary import Row, Section
from dml_bench.results.record import RunRecord


@of_the_first
def training_curves(section: Section, look: Looks) -> Figure | None:
    """Draw the training loss per epoch, one panel per row with its own scale. None when no run has a curve."""
    shown = [(row, label) for row, label in named(section, NARROW) if any(run.curve for run in row.runs)]
    failed = any(run.status == "failed" and run.curve for row, _ in shown for run in row.runs)
    most = max((sum(bool(run.curve) for run in row.finished) for row, _ in shown), default=0)
    line = ("no run finished", "one seed", "mean, band: least to most over seeds")[min(most, 2)]
    crosses = "; thin line to a cross: a run that failed" if failed else ""
    note = f"Training loss ({line}{crosses}); each panel has its own scale"

    def fill(axes: Axes, row: Row) -> None:
        _losses(axes, row, look[row.key])

    return panels(section, shown, note, ("epoch", "loss"), fill, same_scale=False)


def _losses(axes: Axes, row: Row, look: Look) -> None:
    """Draw mean and band, like the tables, over the finished seeds, and the failed ones on their own."""
    curves = [{epoch.epoch: epoch.loss for epoch in run.curve} for run in row.finished if run.curve]
    epochs = sorted(set().union(*curves))
    if epochs:
        values = np.array([[curve.get(epoch, math.nan) for curve in curves] for epoch in epochs])
        least, most = values.min(axis=1), values.max(axis=1)
        axes.fill_between(epochs, least, most, color=look.color, alpha=0.3, linewidth=0)
        axes.plot(epochs, values.mean(axis=1), color=look.color, linewidth=1.6, marker="o" if len(epochs) == 1 else "")
    for run in row.runs:
        if run.status == "failed":
            _failed(axes, run, look)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))


def _failed(axes: Axes, run: RunRecord, look: Look) -> None:
    """Draw a run that failed, and put a cross where it had its last finite loss."""
    values = [epoch.loss if math.isfinite(epoch.loss) else math.nan for epoch in run.curve]
    axes.plot([epoch.epoch for epoch in run.curve], values, color=look.color, linewidth=0.8)
    finite = [(epoch.epoch, epoch.loss) for epoch in run.curve if math.isfinite(epoch.loss)]
    if finite:
        axes.plot(*zip(finite[-1], strict=True), marker="x", color=look.color, markersize=6, linestyle="none")
