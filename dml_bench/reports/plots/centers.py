"""What became of the centers."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from dml_bench.reports.plots.canvas import NARROW, Looks, named, of_the_first, panels
from dml_bench.reports.style import Look
from dml_bench.reports.summary import Row, Section


@of_the_first
def centers_histogram(section: Section, look: Looks) -> Figure | None:
    """Draw how many centers per class survive merging, over all classes and seeds. None for one center per class."""
    shown = [(row, label) for row, label in named(section, NARROW) if any(run.centers_left for run in row.finished)]
    most = max((count for row, _ in shown for run in row.finished for count in run.centers_left), default=0)
    note = "Centers per class that remain when those closer than 0.1 are merged (all seeds together)"

    def fill(axes: Axes, row: Row) -> None:
        _bars(axes, row, look[row.key], most)

    return panels(section, shown, note, ("centers left", "classes"), fill, same_scale=True)


def _bars(axes: Axes, row: Row, look: Look, most: int) -> None:
    counts = np.bincount([count for run in row.finished for count in run.centers_left], minlength=most + 1)
    axes.bar(range(most + 1), counts / counts.sum(), width=0.8, color=look.color, edgecolor="black", linewidth=0.4)
    axes.set(xlim=(0.4, most + 0.6), ylim=(0, 1.04))  # panels share the axis: all shares fit
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
