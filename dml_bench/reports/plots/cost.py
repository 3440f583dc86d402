"""Quality against cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from dml_bench.reports.plots.canvas import (
    TITLE_WIDTH,
    WIDE,
    Looks,
    axis_name,
    interval,
    longest,
    marker,
    named,
    of_the_first,
    sure,
    title,
)
from dml_bench.reports.plots.placing import place
from dml_bench.reports.scales import scale_of
from dml_bench.reports.standings import Standings, letter
from dml_bench.reports.summary import Row, Section

Point = tuple[int, float, float]
"""The place of a row in its section, its seconds, and its metric as shown."""
Span = tuple[float, float]


@of_the_first
def pareto(section: Section, look: Looks) -> Figure | None:
    """Draw the leading metric against training time; a step line joins rows that none beats in both.

    Level bars reach from the fastest seed to the slowest, which other work on a machine can set far apart. Letters
    are those of the tables. None without two trained rows of which the time is known.
    """
    stands = Standings(section, section.ranked_by)
    scale, means = scale_of(stands.metric), [known.mean for known in stands.estimates]
    trained = [i for i, row in enumerate(section.rows) if not row.is_reference and not math.isnan(means[i])]
    points = [(i, section.rows[i].train_seconds, scale.shown(means[i])) for i in trained]
    points = [point for point in points if point[1] > 0]
    if len(points) < 2:
        return None
    shown = [(row, f"{letter(i)}  {label}") for i, (row, label) in enumerate(named(section, WIDE))]
    kept = [shown[i] for i, _, _ in points]
    height = max(4.6, 1.4 + 0.155 * sum(label.count("\n") + 1.35 for _, label in kept))
    figure = Figure(figsize=(max(5.8 + 0.075 * longest(kept), TITLE_WIDTH), height), layout="constrained")
    axes = figure.subplots()
    spans = {i: _span(section.rows[i]) for i, _, _ in points}
    _scales(axes, list(spans.values()))
    best = front(points, scale.better == "higher")
    strokes = _step(axes, [points[i] for i in best])
    for i, seconds, mean in points:
        style = look[section.rows[i].key]
        axes.hlines(mean, *spans[i], colors=style.color, linewidth=0.8, alpha=0.45)
        axes.vlines(seconds, *interval(stands.estimates[i], scale), colors=style.color, linewidth=0.8, alpha=0.45)
        (dot,) = axes.plot([seconds], [mean], linestyle="none", **marker(style))
        dot.set_label(shown[i][1])
    _references(axes, stands, shown, look)
    axes.set(xlabel="training seconds (mean over seeds)", ylabel=axis_name(stands.metric))
    axes.grid()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", handlelength=1.5)
    several = "; level bars: the fastest and the slowest seed" * any(low < high for low, high in spans.values())
    note = f"{stands.metric} and training time; stepped line: no row is both better and faster by the means"
    note += f"\n{sure(stands.estimates)}{several}"
    figure.suptitle(title(section, note), fontsize=9)
    names = {points[i][0]: [f"{letter(points[i][0])} {section.rows[points[i][0]].loss}"] for i in best}
    place(axes, [((x, y), [*names.get(i, ()), letter(i)]) for i, x, y in points], strokes)
    return figure


def _references(axes: Axes, stands: Standings, shown: Sequence[tuple[Row, str]], look: Looks) -> None:
    """Draw what took no training as a level line, or say in the legend that it is off the scale."""
    scale, (low, high) = scale_of(stands.metric), axes.get_ylim()
    for (row, label), known in zip(shown, stands.estimates, strict=True):
        if row.is_reference and not math.isnan(known.mean):
            value, style = scale.shown(known.mean), look[row.key]
            (text,) = scale.texts([known.mean], scale.decimals([known.mean]))
            inside = low <= value <= high
            where = "" if inside else ", above the scale" if value > high else ", below the scale"
            xs, ys = (axes.get_xlim(), [value] * 2) if inside else ([], [])
            axes.plot(xs, ys, color=style.color, linestyle=style.line, label=f"{label}: {text}{where}")
    axes.set_ylim(low, high)


def front(points: Sequence[Point], higher: bool) -> list[int]:
    """Return the positions of the points that no other beats or equals in both, the fastest first."""
    order = sorted(range(len(points)), key=lambda i: (points[i][1], -points[i][2] if higher else points[i][2]))
    found: list[int] = []
    for i in order:
        last = points[found[-1]][2] if found else math.nan
        if not found or (points[i][2] > last if higher else points[i][2] < last):
            found.append(i)
    return found


def _step(axes: Axes, best: Sequence[Point]) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Draw the front, from each point level to the time of the next, and return the ends of its lines."""
    ends = [x for _, x, _ in best[1:]] + [axes.get_xlim()[1]]
    path = [corner for (_, x, y), end in zip(best, ends, strict=True) for corner in ((x, y), (end, y))]
    axes.plot(*zip(*path, strict=True), color="black", linewidth=1, linestyle="--", zorder=1)
    return list(pairwise(path))


def _span(row: Row) -> Span:
    times = [run.seconds["train"] for run in row.finished if "train" in run.seconds]
    return min(times), max(times)


def _scales(axes: Axes, spans: Sequence[Span]) -> None:
    """Span the times, by powers where they are far apart."""
    least, most = min(low for low, _ in spans), max(high for _, high in spans)
    if most > 8 * least:
        axes.set_xscale("log")
        axes.set_xlim(least / 1.3, most * 1.5)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        room = 0.08 * (most - least) or 0.1 * most
        axes.set_xlim(least - room, most + room)
        axes.xaxis.set_major_locator(MaxNLocator(6))
