"""Recall against k."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from dml_bench.reports.plots.canvas import WIDE, Looks, longest, marker, named, of_the_first, spread, title
from dml_bench.reports.style import Look
from dml_bench.reports.summary import Row, Section


@of_the_first
def recall_curves(section: Section, look: Looks) -> Figure | None:
    """Draw recall@k against k: mean over seeds, bars of one standard deviation. None without two values of k.

    References that are below all losses have a panel of their own: on one scale with them, the trained losses would be
    one thick line.
    """
    ks = [int(name[len("recall@") :]) for name in section.metrics if re.fullmatch(r"recall@[1-9]\d*", name)]
    everyone = named(section, WIDE)
    shown = [(row, label) for row, label in everyone if any(not math.isnan(row.mean(f"recall@{k}")) for k in ks)]
    if len(ks) < 2 or not shown:
        return None
    parts = _parts([row for row, _ in shown], ks)
    height = max(4.8, 0.8 + 0.155 * sum(label.count("\n") + 1.35 for _, label in shown))
    figure = Figure(figsize=(6.0 + 0.075 * longest(shown), height), layout="constrained")
    panels = figure.subplots(len(parts), sharex=True, squeeze=False, height_ratios=(3, 1)[: len(parts)]).ravel()
    lines = [_curve(axes, row, ks, look[row.key]) for axes, part in zip(panels, parts, strict=True) for row in part]
    for axes, part in zip(panels, parts, strict=True):
        axes.grid(axis="y")
        axes.set_ylabel("references (%)" if all(row.is_reference for row in part) else "recall@k (%)")
    panels[-1].set_xscale("log", base=2)
    panels[-1].set_xticks(ks, [str(k) for k in ks])
    panels[-1].xaxis.set_minor_locator(NullLocator())
    panels[-1].set_xlabel("k")
    panels[0].set_title(title(section, f"Recall at k: {spread(section)}"))
    figure.legend(lines, [label for _, label in shown], loc="outside right upper", handlelength=3.2)
    return figure


def _parts(rows: Sequence[Row], ks: Sequence[int]) -> list[list[Row]]:
    """Return the rows of each panel."""

    def first(row: Row) -> float:
        return next((mean for k in ks if not math.isnan(mean := row.mean(f"recall@{k}"))), math.nan)

    trained = [row for row in rows if not row.is_reference]
    least = min(map(first, trained), default=math.inf)
    above = [row for row in rows if row.is_reference and first(row) >= least]
    below = [row for row in rows if row.is_reference and row not in above]
    return [part for part in ([*trained, *above], below) if part]


def _curve(axes: Axes, row: Row, ks: Sequence[int], look: Look) -> Line2D:
    means = np.array([100 * row.mean(f"recall@{k}") for k in ks])
    spreads = np.array([100 * row.std(f"recall@{k}") for k in ks])
    axes.vlines(ks, means - spreads, means + spreads, colors=look.color, linewidth=1, alpha=0.7)
    (line,) = axes.plot(ks, means, linestyle=look.line, linewidth=1.3, **marker(look))
    return line
