"""Metrics as dots on intervals, and which rows are tied with the best."""

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
    interval,
    longest,
    marker,
    named,
    of_the_first,
    title,
)
from dml_bench.reports.scales import Scale, scale_of
from dml_bench.reports.standings import Standings, neighbors
from dml_bench.reports.statistics import Estimate
from dml_bench.reports.style import Look
from dml_bench.reports.summary import Row, Section

SHADE = "#ECECEC"


@of_the_first
def metric_dots(section: Section, look: Looks) -> Figure | None:
    """Draw one panel per metric, one line per row: mean and 95 percent interval. None without metrics.

    Rows tied with the best are shaded and bracketed. The axes span the trained losses. A reference beyond them is an
    arrow at the edge with its value.
    """
    places = [i for i, row in enumerate(section.rows) if row.finished]
    if not section.metrics or not places:
        return None
    everyone = named(section, WIDE)
    shown = [everyone[i] for i in places]
    stands = [Standings(section, metric) for metric in section.metrics]
    figure, panels = _grid(len(stands), shown)
    for axes, stand in zip(panels, stands, strict=True):
        _dots(axes, stand, places, look)
        axes.set_xlabel(", ".join([*_unit(scale_of(stand.metric)), *_basis(stand, stands)]))
        _brackets(axes, [place for place, i in enumerate(places) if i in stand.standing.tied])
    panels[0].set_yticks(range(len(shown)), [label for _, label in shown])
    panels[0].set_ylim(len(shown) - 0.4, -0.6)
    figure.suptitle(title(section, "\n".join(_notes(stands))), fontsize=9)
    return figure


def _grid(many: int, shown: Sequence[tuple[Row, str]]) -> tuple[Figure, list[Axes]]:
    across = min(PANELS_ACROSS, many)
    down = math.ceil(many / across)
    lines = max(label.count("\n") + 1 for _, label in shown)
    height = down * (0.9 + (0.09 + 0.14 * lines) * len(shown)) + 0.7
    width = max(1.2 + 2.4 * across + 0.075 * longest(shown), TITLE_WIDTH)
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = list(figure.subplots(down, across, squeeze=False, sharey=True).ravel())
    for axes in panels[many:]:
        axes.set_visible(False)
    return figure, panels[:many]


def _dots(axes: Axes, stands: Standings, places: Sequence[int], look: Looks) -> None:
    scale, rows, found = scale_of(stands.metric), stands.section.rows, stands.estimates
    left, right = _span([found[i] for i in places if not rows[i].is_reference] or [found[i] for i in places], scale)
    axes.set(title=stands.metric, xlim=(left, right))
    for place, i in enumerate(places):
        mean, style = scale.shown(found[i].mean), look[rows[i].key]
        if left <= mean <= right:
            low, high = interval(found[i], scale)
            axes.hlines(place, low, high, colors=style.color, linewidth=1.4)
            cut = [(edge, tip) for edge, tip, over in ((left, "<", low < left), (right, ">", high > right)) if over]
            for edge, tip in cut:
                axes.plot([edge], [place], color=style.color, marker=tip, markersize=4, clip_on=False)
            axes.plot([mean], [place], linestyle="none", clip_on=False, **marker(style))
        elif not math.isnan(mean):
            _arrow(axes, place, found[i].mean, scale, style)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid()


def _arrow(axes: Axes, place: int, mean: float, scale: Scale, style: Look) -> None:
    """Point to a value beyond the axes."""
    left, right = axes.get_xlim()
    (number,) = scale.texts([mean], scale.decimals([mean]))
    below = scale.shown(mean) < left
    edge, text, side = (left, f"◂ {number}", "left") if below else (right, f"{number} ▸", "right")
    axes.text(edge, place, text, ha=side, va="center", fontsize=8, color=style.color)


def _brackets(axes: Axes, tied: Sequence[int]) -> None:
    """Shade rows, and bracket those that stand together on the right."""
    across = axes.get_yaxis_transform()
    for group in neighbors(tied):
        first, last = group[0] - 0.36, group[-1] + 0.36
        axes.axhspan(group[0] - 0.5, group[-1] + 0.5, color=SHADE, linewidth=0, zorder=0)
        bracket = [1.015, 1.045, 1.045, 1.015], [first, first, last, last]
        axes.plot(*bracket, transform=across, color="black", linewidth=0.9, clip_on=False)
        if len(group) > 1:
            middle = (first + last) / 2
            axes.text(1.06, middle, "tied", transform=across, rotation=90, ha="left", va="center", fontsize=7)


def _span(found: Sequence[Estimate], scale: Scale) -> tuple[float, float]:
    """Return axis limits, as shown, that hold every mean and its interval, with a margin."""
    known = [known for known in found if not math.isnan(known.mean)]
    ends = [end for known in known for end in interval(known, scale)] or [0.0, scale.shown(1.0)]
    least = 0.5 if scale.percent else 0.02 * max(map(abs, ends)) or 0.02
    margin = max(0.08 * (max(ends) - min(ends)), least)
    left, right = min(ends) - margin, max(ends) + margin
    if not scale.bounded:
        return left, right
    return max(left, 0.0), min(right, scale.shown(1.0) + 0.1 * margin)  # room for half a marker


def _unit(scale: Scale) -> list[str]:
    return [*(["%"] if scale.percent else []), *(["lower is better"] if scale.better == "lower" else [])]


def _basis(stand: Standings, stands: Sequence[Standings]) -> list[str]:
    """Say so where intervals are about less than in other panels."""
    some = any(known.classes for other in stands for known in other.estimates)
    return ["new seeds only"] if some and not any(known.classes for known in stand.estimates) else []


def _notes(stands: Sequence[Standings]) -> list[str]:
    found = [known for stand in stands for known in stand.estimates]
    sure = "new seeds and classes" if any(known.classes for known in found) else "new seeds"
    several = any(known.seeds > 1 for known in found)
    notes = [f"Metrics: mean and 95 % interval for {sure}" if several else "Metrics: one seed, so no interval is known"]
    if any(stand.standing.tied for stand in stands):
        notes.append("shaded and bracketed: tied, not told apart from the best (5 %, Holm)")
    if any(row.is_reference and row.finished for row in stands[0].section.rows):
        notes.append("an arrow points off the scale")
    return ["; ".join(notes)] if len(notes) < 3 else [notes[0], "; ".join(notes[1:])]
