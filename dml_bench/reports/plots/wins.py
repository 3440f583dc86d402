"""Who is better than whom, pair by pair."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from dml_bench.reports.plots.canvas import TITLE_WIDTH, WIDE, Looks, longest, named, title
from dml_bench.reports.scales import scale_of
from dml_bench.reports.standings import Standings, letter
from dml_bench.reports.summary import Section

MOST = 20
"""Rows that are shown: more are no picture."""
WORSE, SAME, BETTER, SELF = range(4)
FILLS = ListedColormap(["#F6C794", "#FFFFFF", "#0072B2", "#F0F0F0"])
INK = {WORSE: "black", SAME: "#444444", BETTER: "white"}
SIGN = {WORSE: " ▼", SAME: "", BETTER: " ▲"}
CELL = 0.5, 0.3
"""Width and height in inches."""


def win_matrix(section: Section, look: Looks) -> Figure | None:
    """Draw for every pair of trained rows how they differ by the leading metric, and whether that is told apart.

    Letters are those of the tables. None without two rows that can be compared: several seeds, and values per query.
    """
    stands = Standings(section, section.ranked_by)
    tested = sorted({i for pair, (_, p) in stands.differences.items() if not math.isnan(p) for i in pair})
    shown = tested[:MOST]
    if not shown:
        return None
    everyone = named(section, WIDE)
    names = [(row, f"{label}   {letter(i)}") for i, (row, label) in enumerate(everyone)]
    kept = [names[i] for i in shown]
    lines = max(label.count("\n") + 1 for _, label in kept)
    height = max(CELL[1], 0.14 * lines + 0.05)
    width = max(CELL[0] * len(shown) + 0.075 * longest(kept) + 0.5, TITLE_WIDTH)
    figure = Figure(figsize=(width, height * len(shown) + 1.3), layout="constrained")
    axes = figure.subplots()
    _cells(axes, stands, shown)
    axes.set_xticks(range(len(shown)), [letter(i) for i in shown])
    axes.set_yticks(range(len(shown)), [label for _, label in kept])
    figure.suptitle(title(section, _note(stands, len(shown), len(tested))), fontsize=9)
    return figure


def _cells(axes: Axes, stands: Standings, shown: Sequence[int]) -> None:
    codes = np.array([[_code(stands, i, j) for j in shown] for i in shown])
    edges = np.arange(len(shown) + 1) - 0.5
    axes.pcolormesh(edges, edges, codes, cmap=FILLS, vmin=-0.5, vmax=3.5, edgecolors="#AAAAAA", linewidth=0.5)
    for (y, x), code in np.ndenumerate(codes):
        if x != y:
            text = _difference(stands, shown[y], shown[x]) + SIGN[code]
            weight = "normal" if code == SAME else "bold"
            axes.text(x, y, text, ha="center", va="center", fontsize=7, color=INK[code], fontweight=weight)
    axes.set(xlim=(-0.5, len(shown) - 0.5), ylim=(len(shown) - 0.5, -0.5))
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)


def _code(stands: Standings, i: int, j: int) -> int:
    better = stands.standing.better
    return SELF if i == j else BETTER if j in better[i] else WORSE if i in better[j] else SAME


def _difference(stands: Standings, i: int, j: int) -> str:
    """Write the row's value minus the column's."""
    scale = scale_of(stands.metric)
    value = stands.estimates[i].mean - stands.estimates[j].mean
    text = f"{scale.shown(value):+.{scale.decimals([known.mean for known in stands.estimates])}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("+-")


def _note(stands: Standings, shown: int, of: int) -> str:
    unit = "percentage points" if scale_of(stands.metric).percent else "its own unit"
    which = f" (the first {shown} of {of} rows)" if shown < of else ""
    return (
        f"Row minus column by {stands.metric}, in {unit}{which}\n"
        "▲ dark: the row is better, ▼ pale: worse, white: not told apart (new seeds and classes, 5 %, Holm)"
    )
