"""The loss while training."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dml_bench.reports.plots.canvas import NARROW, Looks, named, panels
from dml_bench.reports.style import Look
from dml_bench.reports.summary import Row, Section
from dml_bench.results.record import RunRecord


def training_curves(section: Section, look: Looks) -> Figure | None:
    """Draw the training loss per epoch, one panel per row with its own scale. None when no run has a curve."""
    shown = [(row, label) for row, label in named(section, NARROW) if any(run.curve for run in row.runs)]
    note = "Training loss (thin: seeds, cross: failed, thick: mean of the others); each panel has its own scale"

    def fill(axes: Axes, row: Row) -> None:
        _losses(axes, row, look[row.key])

    return panels(section, shown, note, ("epoch", "loss"), fill, same_scale=False)


def _losses(axes: Axes, row: Row, look: Look) -> None:
    """Draw every seed; the mean, like the tables, is that of the finished ones."""
    for run in row.runs:
        values = [epoch.loss if math.isfinite(epoch.loss) else math.nan for epoch in run.curve]
        axes.plot([epoch.epoch for epoch in run.curve], values, color=look.color, linewidth=0.7, alpha=0.6)
        if run.status == "failed":
            _mark_end(axes, run, look)
    curves = [{epoch.epoch: epoch.loss for epoch in run.curve} for run in row.finished if run.curve]
    epochs = sorted(set().union(*curves))
    means = [np.mean([curve.get(epoch, math.nan) for curve in curves]) for epoch in epochs]
    axes.plot(epochs, means, color=look.color, linewidth=1.6, marker="o" if len(epochs) == 1 else "")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))


def _mark_end(axes: Axes, run: RunRecord, look: Look) -> None:
    """Put a cross where a failed run had its last finite loss."""
    finite = [(epoch.epoch, epoch.loss) for epoch in run.curve if math.isfinite(epoch.loss)]
    if finite:
        axes.plot(*zip(finite[-1], strict=True), marker="x", color=look.color, markersize=6, linestyle="none")
