"""Mean ranks over data sets."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dml_bench.reports.across import Across, ranked_across
from dml_bench.reports.options import options_text
from dml_bench.reports.plots.canvas import NARROW, TITLE_LENGTH, TITLE_WIDTH, Looks, marker
from dml_bench.reports.style import folded
from dml_bench.reports.summary import Row, Section, ranking_metric


def critical_difference(sections: Sequence[Section], look: Looks) -> Figure | None:
    """Draw the mean ranks of the losses that data sets have in common; bars join those that are not told apart.

    None without three losses in common to two data sets.

    Source: Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 2006, figure 1.
    """
    metric = ranking_metric([row for section in sections for row in section.rows])
    known = ranked_across(sections, metric)
    if known is None:
        return None
    shown = [(known.result.ranks[i], known.rows[i]) for i in known.order]
    names = [folded(row.loss, options_text(row.runs[0].options), NARROW, 3) for _, row in shown]
    title = _title(known, metric)
    bars = groups([rank for rank, _ in shown], known.result.critical)
    depth = -(-len(shown) // 2) + len(bars) / 3 + 0.5
    step = 0.12 + 0.14 * max(name.count("\n") + 1 for name in names)
    width = 4 + 0.15 * max(len(line) for name in names for line in name.split("\n"))
    figure = Figure(
        figsize=(max(width, TITLE_WIDTH), step * (depth + 2.4) + 0.45 + 0.15 * title.count("\n")), layout="constrained"
    )
    axes = figure.subplots()
    _ruler(axes, known, depth)
    for place, (low, high) in enumerate(bars):
        axes.plot([low - 0.04, high + 0.04], [-0.45 - place / 3] * 2, color="black", linewidth=3)
    _names(axes, shown, names, -len(bars) / 3 - 1, look)
    figure.suptitle(title, fontsize=9)
    return figure


def groups(ranks: Sequence[float], critical: float) -> list[tuple[float, float]]:
    """Return the ends of the largest stretches of rising ranks that differ by no more than ``critical``."""
    found: list[tuple[float, float]] = []
    for low in ranks:
        high = max(rank for rank in ranks if rank - low <= critical)
        if high > low and not (found and found[-1][1] >= high):
            found.append((low, high))
    return found


def _ruler(axes: Axes, known: Across, depth: float) -> None:
    many, critical = len(known.names), known.result.critical
    axes.set(xlim=(1 - 0.03 * many, many + 0.03 * many), ylim=(-depth, 2.4))
    axes.axis("off")
    axes.plot([1, many], [0, 0], color="black", linewidth=1)
    every = 1 if many <= 20 else 5
    for rank in range(1, many + 1):
        axes.plot([rank, rank], [0, 0.15], color="black", linewidth=0.8)
        if rank == 1 or rank % every == 0:
            axes.text(rank, 0.25, str(rank), ha="center", va="bottom", fontsize=8)
    end = min(1 + critical, many)
    axes.plot([1, 1, 1, end, end, end], [1.6, 1.3, 1.45, 1.45, 1.3, 1.6], color="black", linewidth=1)
    more = "" if end == 1 + critical else " (more than all ranks)"
    axes.text((1 + end) / 2, 1.6, f"critical difference {critical:.2f}{more}", ha="center", va="bottom", fontsize=8)


def _names(axes: Axes, shown: Sequence[tuple[float, Row]], names: Sequence[str], top: float, look: Looks) -> None:
    """Name the better half on the left and the other on the right, each by a line to its rank."""
    half, many = -(-len(shown) // 2), len(shown)
    for place, ((rank, row), name) in enumerate(zip(shown, names, strict=True)):
        left = place < half
        depth = top - (place if left else many - 1 - place)
        edge = 1 - 0.02 * many if left else many + 0.02 * many
        style = look[row.key]
        axes.plot([rank, rank, edge], [0, depth, depth], color=style.color, linewidth=0.9)
        axes.plot([rank], [0], linestyle="none", clip_on=False, **marker(style))
        axes.annotate(
            f"{name}  {rank:.2f}",
            (edge, depth),
            (-4 if left else 4, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=8,
        )


def _title(known: Across, metric: str) -> str:
    p = known.result.p
    verdict = "the losses differ" if p < 0.05 else "no difference is shown"
    out = ", ".join(dict.fromkeys(name.partition(" (")[0] for name in known.left_out))
    over = ", ".join(section.dataset for section in known.sections)
    return "\n".join(
        [
            *textwrap.wrap(f"Mean rank by {metric} over {over}; the best is on the left", TITLE_LENGTH),
            *textwrap.wrap(f"Not with the same options on all, so not ranked: {out}", TITLE_LENGTH)[: 3 if out else 0],
            f"Friedman p = {p:.3g}: {verdict}; a bar joins losses that are not told apart (Nemenyi, 5 %)",
        ]
    )
