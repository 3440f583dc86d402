"""Metrics as dots on lines."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dml_bench.reports.plots.canvas import (
    PANELS_ACROSS,
    TITLE_WIDTH,
    WIDE,
    Looks,
    longest,
    marker,
    named,
    spread,
    title,
)
from dml_bench.reports.scales import Scale, scale_of
from dml_bench.reports.summary import Row, Section


def metric_dots(section: Section, look: Looks) -> Figure | None:
    """Draw one panel per metric, one line per row: mean over seeds and one standard deviation. None without metrics.

    The axes span the trained losses. A reference beyond them is an arrow at the edge with its value.
    """
    shown = [(row, label) for row, label in named(section, WIDE) if row.finished]
    if not section.metrics or not shown:
        return None
    across = min(PANELS_ACROSS, len(section.metrics))
    down = math.ceil(len(section.metrics) / across)
    lines = max(label.count("\n") + 1 for _, label in shown)
    height = down * (0.9 + (0.09 + 0.14 * lines) * len(shown)) + 0.4
    width = max(1.2 + 2.3 * across + 0.075 * longest(shown), TITLE_WIDTH)
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for axes, metric in zip(panels, section.metrics, strict=False):
        _dots(axes, [row for row, _ in shown], metric, look)
    for axes in panels[len(section.metrics) :]:
        axes.set_visible(False)
    panels[0].set_yticks(range(len(shown)), [label for _, label in shown])
    panels[0].set_ylim(len(shown) - 0.4, -0.6)
    arrows = "; an arrow points to a reference off the scale" if any(row.is_reference for row, _ in shown) else ""
    figure.suptitle(title(section, f"Metrics: {spread(section)}{arrows}"), fontsize=9)
    return figure


def _dots(axes: Axes, rows: Sequence[Row], metric: str, look: Looks) -> None:
    scale = scale_of(metric)
    left, right = _span([row for row in rows if not row.is_reference] or rows, metric, scale)
    for place, row in enumerate(rows):
        mean, spread, style = scale.shown(row.mean(metric)), scale.shown(row.std(metric)), look[row.key]
        if left <= mean <= right:
            axes.hlines(place, mean - spread, mean + spread, colors=style.color, linewidth=1.4)
            axes.plot([mean], [place], linestyle="none", **marker(style))
        elif not math.isnan(mean):
            edge, arrow, side = (left, "◂", "left") if mean < left else (right, "▸", "right")
            (number,) = scale.texts([row.mean(metric)], scale.decimals([row.mean(metric)]))
            text = f"{arrow} {number}" if mean < left else f"{number} {arrow}"
            axes.text(edge, place, text, ha=side, va="center", fontsize=8, color=style.color)
    unit = ["%"] if scale.percent else []
    direction = ["lower is better"] if scale.better == "lower" else []
    axes.set(title=metric, xlabel=", ".join(unit + direction), xlim=(left, right))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid()


def _span(rows: Sequence[Row], metric: str, scale: Scale) -> tuple[float, float]:
    """Return axis limits, as shown, that hold every mean and its spread, with a margin."""
    known = [(row.mean(metric), row.std(metric)) for row in rows if not math.isnan(row.mean(metric))]
    known = [(scale.shown(mean), scale.shown(std)) for mean, std in known]
    ends = [mean + sign * (0 if math.isnan(std) else std) for mean, std in known for sign in (-1, 1)]
    ends = ends or [0.0, scale.shown(1.0)]
    least = 0.5 if scale.percent else 0.02 * max(map(abs, ends)) or 0.02
    margin = max(0.08 * (max(ends) - min(ends)), least)
    left, right = min(ends) - margin, max(ends) + margin
    if not scale.bounded:
        return left, right
    return max(left, 0.0), min(right, scale.shown(1.0) + 0.1 * margin)  # room for half a marker
