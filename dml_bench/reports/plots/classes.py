"""How evenly a loss serves the classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from dml_bench.reports.measured import measured
from dml_bench.reports.plots.canvas import TITLE_WIDTH, WIDE, Looks, axis_name, longest, marker, named, title
from dml_bench.reports.scales import Scale, scale_of
from dml_bench.reports.summary import Row, Section

BEST = 4
"""Trained rows that are shown, beside the references."""
DOTS = 10
"""Markers on a line of many classes, about."""
Classes = tuple[Row, str, npt.NDArray[np.float64]]
"""A row, its name, and the mean of each class over seeds."""


def class_recall(section: Section, look: Looks) -> Figure | None:
    """Draw the leading metric of every class, from a row's worst to its best, of the best rows and the references.

    References that are worse than all of these by the mean have a panel of their own. None where no row kept values
    per query, or of one class.
    """
    metric = section.ranked_by
    found = [(row, label, values) for row, label in named(section, WIDE) if len(values := _means(row, metric)) > 1]
    trained = [item for item in found if not item[0].is_reference]
    parts = _parts(trained[:BEST], [item for item in found if item[0].is_reference], scale_of(metric))
    if not parts:
        return None
    shown = [(row, label) for part in parts for row, label, _ in part]
    figure = Figure(figsize=(max(6.0 + 0.075 * longest(shown), TITLE_WIDTH), 5.6), layout="constrained")
    panels = figure.subplots(len(parts), sharex=True, squeeze=False, height_ratios=(5, 3)[: len(parts)]).ravel()
    for axes, part in zip(panels, parts, strict=True):
        _lines(axes, part, metric, look)
    panels[0].set_ylabel(axis_name(metric))
    panels[-1].xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    panels[-1].set_xlabel(f"{len(parts[0][0][2])} test classes, from each line's worst to its best")
    figure.legend(loc="outside right center", handlelength=3.2)
    which = f"; the best {BEST} of {len(trained)} losses" if len(trained) > BEST else ""
    figure.suptitle(title(section, f"{metric} by class, mean over seeds{which}"), fontsize=9)
    return figure


def _parts(trained: Sequence[Classes], references: Sequence[Classes], scale: Scale) -> list[list[Classes]]:
    """Return what each panel shows."""
    worst = max((scale.badness(values.mean()) for _, _, values in trained), default=-math.inf)
    near = [item for item in references if scale.badness(item[2].mean()) <= worst]
    far = [item for item in references if scale.badness(item[2].mean()) > worst]
    return [part for part in ([*trained, *near], far) if part]


def _lines(axes: Axes, part: Sequence[Classes], metric: str, look: Looks) -> None:
    scale = scale_of(metric)
    for place, (row, label, values) in enumerate(part):
        style, shares = look[row.key], np.linspace(0, 1, len(values))
        every = max(1, len(values) // DOTS)
        dots = (place * every // len(part), every)  # those of other lines stand between
        levels = np.sort([scale.shown(value) for value in values])
        axes.plot(shares, levels, linestyle=style.line, linewidth=1.3, markevery=dots, label=label, **marker(style))
    axes.grid()
    if all(row.is_reference for row, _, _ in part):
        axes.set_ylabel("references (%)" if scale.percent else "references")


def _means(row: Row, metric: str) -> npt.NDArray[np.float64]:
    known = measured(row.finished, metric)
    return known.means.values.mean(axis=0) if known else np.empty(0)
