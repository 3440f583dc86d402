"""Every picture of a report, as one function from a section to a figure. The only module that imports matplotlib."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter

from dml_bench.reports.scales import Scale, scale_of
from dml_bench.reports.style import SETTINGS, Look, RowKey, labels, looks
from dml_bench.reports.summary import Row, Section, sections
from dml_bench.results.record import RunRecord

Looks = Mapping[RowKey, Look]
Picture = Callable[[Section, Looks], Figure | None]
PANELS_ACROSS = 4
TITLE_WIDTH = 7.5
"""Inches that the longest title needs."""
WIDE, NARROW = 46, 34
"""Characters of a row's name before it folds: beside a plot, and above a small panel."""


def draw(records: Sequence[RunRecord]) -> Iterator[tuple[str, bytes]]:
    """Draw every picture that applies, as PNG and SVG; the same records give the same bytes.

    Yields:
        File name and content. Names carry data set and protocol when the records hold more than one of these.

    Raises:
        ResultsError: when two different records claim to be the same run.
    """
    found = sections(records)
    look = looks(found)
    for section in found:
        suffix = f"-{section.dataset}-{section.protocol_id}" if len(found) > 1 else ""
        for name, picture in PICTURES.items():
            stem = re.sub(r"[^\w.-]", "_", name + suffix)
            for kind, content in _rendered(picture, section, look):
                yield f"{stem}.{kind}", content


def recall_curves(section: Section, look: Looks) -> Figure | None:
    """Draw recall@k against k: mean over seeds, bars of one standard deviation. None without two values of k.

    References have a panel of their own: on one scale with them, the trained losses would be one thick line.
    """
    ks = [int(name[len("recall@") :]) for name in section.metrics if re.fullmatch(r"recall@[1-9]\d*", name)]
    named = _named(section, WIDE)
    shown = [(row, label) for row, label in named if any(not math.isnan(row.mean(f"recall@{k}")) for k in ks)]
    if len(ks) < 2 or not shown:
        return None
    parts = [part for part in ([r for r, _ in shown if r.is_reference is kind] for kind in (False, True)) if part]
    height = max(4.8, 0.8 + 0.155 * sum(label.count("\n") + 1.35 for _, label in shown))
    figure = Figure(figsize=(6.0 + 0.075 * _longest(shown), height), layout="constrained")
    panels = figure.subplots(len(parts), sharex=True, squeeze=False, height_ratios=(3, 1)[: len(parts)]).ravel()
    lines = [_curve(axes, row, ks, look[row.key]) for axes, part in zip(panels, parts, strict=True) for row in part]
    for axes, part in zip(panels, parts, strict=True):
        axes.grid(axis="y")
        axes.set_ylabel("references (%)" if part[0].is_reference else "recall@k (%)")
    panels[-1].set_xscale("log", base=2)
    panels[-1].set_xticks(ks, [str(k) for k in ks])
    panels[-1].xaxis.set_minor_locator(NullLocator())
    panels[-1].set_xlabel("k")
    panels[0].set_title(_title(section, f"Recall at k: {_spread(section)}"))
    figure.legend(lines, [label for _, label in shown], loc="outside right upper", handlelength=3.2)
    return figure


def metric_dots(section: Section, look: Looks) -> Figure | None:
    """Draw one panel per metric, one line per row: mean over seeds and one standard deviation. None without metrics.

    The axes span the trained losses. A reference beyond them is an arrow at the edge with its value.
    """
    shown = [(row, label) for row, label in _named(section, WIDE) if row.finished]
    if not section.metrics or not shown:
        return None
    across = min(PANELS_ACROSS, len(section.metrics))
    down = math.ceil(len(section.metrics) / across)
    lines = max(label.count("\n") + 1 for _, label in shown)
    height = down * (0.9 + (0.09 + 0.14 * lines) * len(shown)) + 0.4
    width = max(1.2 + 2.3 * across + 0.075 * _longest(shown), TITLE_WIDTH)
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for axes, metric in zip(panels, section.metrics, strict=False):
        _dots(axes, [row for row, _ in shown], metric, look)
    for axes in panels[len(section.metrics) :]:
        axes.set_visible(False)
    panels[0].set_yticks(range(len(shown)), [label for _, label in shown])
    panels[0].set_ylim(len(shown) - 0.4, -0.6)
    arrows = "; an arrow points to a reference off the scale" if any(row.is_reference for row, _ in shown) else ""
    figure.suptitle(_title(section, f"Metrics: {_spread(section)}{arrows}"), fontsize=9)
    return figure


def training_curves(section: Section, look: Looks) -> Figure | None:
    """Draw the training loss per epoch, one panel per row with its own scale. None when no run has a curve."""
    shown = [(row, label) for row, label in _named(section, NARROW) if any(run.curve for run in row.runs)]
    note = "Training loss (thin: seeds, cross: failed, thick: mean of the others); each panel has its own scale"

    def fill(axes: Axes, row: Row) -> None:
        _losses(axes, row, look[row.key])

    return _panels(section, shown, note, ("epoch", "loss"), fill, same_scale=False)


def centers_histogram(section: Section, look: Looks) -> Figure | None:
    """Draw how many centers per class survive merging, over all classes and seeds. None for one center per class."""
    shown = [(row, label) for row, label in _named(section, NARROW) if any(run.centers_left for run in row.finished)]
    most = max((count for row, _ in shown for run in row.finished for count in run.centers_left), default=0)
    note = "Centers per class that remain when those closer than 0.1 are merged (all seeds together)"

    def fill(axes: Axes, row: Row) -> None:
        _bars(axes, row, look[row.key], most)

    return _panels(section, shown, note, ("centers left", "classes"), fill, same_scale=True)


PICTURES: Mapping[str, Picture] = {
    "recall_curves": recall_curves,
    "metrics": metric_dots,
    "training_curves": training_curves,
    "centers": centers_histogram,
}
"""File name to drawing function: the place to add a picture."""


def _curve(axes: Axes, row: Row, ks: Sequence[int], look: Look) -> Line2D:
    means = np.array([100 * row.mean(f"recall@{k}") for k in ks])
    spreads = np.array([100 * row.std(f"recall@{k}") for k in ks])
    axes.vlines(ks, means - spreads, means + spreads, colors=look.color, linewidth=1, alpha=0.7)
    (line,) = axes.plot(ks, means, linestyle=look.line, linewidth=1.3, **_marker(look))
    return line


def _dots(axes: Axes, rows: Sequence[Row], metric: str, look: Looks) -> None:
    scale = scale_of(metric)
    left, right = _span([row for row in rows if not row.is_reference] or rows, metric, scale)
    for place, row in enumerate(rows):
        mean, spread, style = scale.shown(row.mean(metric)), scale.shown(row.std(metric)), look[row.key]
        if left <= mean <= right:
            axes.hlines(place, mean - spread, mean + spread, colors=style.color, linewidth=1.4)
            axes.plot([mean], [place], linestyle="none", **_marker(style))
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


def _bars(axes: Axes, row: Row, look: Look, most: int) -> None:
    counts = np.bincount([count for run in row.finished for count in run.centers_left], minlength=most + 1)
    axes.bar(range(most + 1), counts / counts.sum(), width=0.8, color=look.color, edgecolor="black", linewidth=0.4)
    axes.set(xlim=(0.4, most + 0.6), ylim=(0, 1.04))  # panels share the axis: all shares fit
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _panels(
    section: Section,
    shown: Sequence[tuple[Row, str]],
    note: str,
    axis_names: tuple[str, str],
    fill: Callable[[Axes, Row], None],
    same_scale: bool,
) -> Figure | None:
    """Lay out one small panel per row, each titled with the row's name."""
    if not shown:
        return None
    across = min(PANELS_ACROSS, len(shown))
    down = math.ceil(len(shown) / across)
    lines = max(label.count("\n") + 1 for _, label in shown)
    figure = Figure(figsize=(max(2.6 * across, TITLE_WIDTH), down * (1.55 + 0.15 * lines) + 0.6), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharey=same_scale).ravel()
    for axes, (row, label) in zip(panels, shown, strict=False):
        fill(axes, row)
        axes.set_title(label, fontsize=8, loc="left")
        axes.grid(axis="y")
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    figure.supxlabel(axis_names[0], fontsize=9)
    figure.supylabel(axis_names[1], fontsize=9)
    figure.suptitle(_title(section, note), fontsize=9)
    return figure


def _named(section: Section, width: int) -> list[tuple[Row, str]]:
    return list(zip(section.rows, labels(section, width, 3), strict=True))


def _longest(shown: Sequence[tuple[Row, str]]) -> int:
    return max(len(line) for _, label in shown for line in label.split("\n"))


def _title(section: Section, text: str) -> str:
    return f"{section.dataset}, protocol {section.protocol_id}\n{text}"


def _spread(section: Section) -> str:
    several = any(len(row.finished) > 1 for row in section.rows)
    return "mean and standard deviation over seeds" if several else "one seed, so no spread is known"


def _marker(look: Look) -> dict[str, Any]:
    fill = {"markerfacecolor": look.face, "markeredgecolor": look.color}
    return {"marker": look.marker, "color": look.color, "markersize": 5.5, "markeredgewidth": 1.0, **fill}


def _rendered(picture: Picture, section: Section, look: Looks) -> list[tuple[str, bytes]]:
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a reader's own matplotlibrc must not change a report
        matplotlib.rcParams.update(SETTINGS)
        figure = picture(section, look)
        return [(kind, _bytes(figure, kind)) for kind in ("png", "svg")] if figure else []


def _bytes(figure: Figure, kind: str) -> bytes:
    """Render without a date, which would make equal pictures differ."""
    content = io.BytesIO()
    figure.savefig(content, format=kind, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return content.getvalue()
