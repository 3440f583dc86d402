"""A metric against an option: what is left of a grid when all but one number stays the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from dml_bench.recipe.identity import APART
from dml_bench.registry import show
from dml_bench.reports.plots.canvas import NARROW, TITLE_WIDTH, Looks, axis_name, interval, marker, sure, title
from dml_bench.reports.scales import scale_of
from dml_bench.reports.standings import Standings
from dml_bench.reports.style import folded
from dml_bench.reports.summary import Row, Section, options_text
from dml_bench.reports.where import FIELDS, fields_of, flat

CENTERS = "centers_per_class"
WEIGHT = "regularizer_weight"
LEAST = 3
"""Values that make a sweep; two are a pair, which other pictures show."""

TICKS = 12
"""Values that an axis names at most."""


@dataclass(frozen=True)
class Line:
    """Rows of one loss that differ in one number.

    Attributes:
        values: of the option, rising.
        places: of the rows in their section.
        others: the other options that set these rows apart.
    """

    values: tuple[float, ...]
    places: tuple[int, ...]
    loss: str
    others: Mapping[str, Any]


def centers_sweep(section: Section, look: Looks) -> Figure | None:
    """Draw the leading metric against the centers of a class, a line with the regularizer and one without.

    None without a loss that has several numbers of centers.

    Source: Qian et al., "SoftTriple Loss: Deep Metric Learning Without Triplet Sampling", ICCV 2019, figure 3.
    """
    lines = sweeps(section).get(CENTERS, [])
    return _drawn(section, {CENTERS: _regularized(lines)}, look) if lines else None


def option_sweep(section: Section, look: Looks) -> Figure | None:
    """Draw the leading metric against every other option, one line per loss and what else sets rows apart.

    None without an option of which a loss has three values, all else the same.
    """
    found = {name: lines for name, lines in sweeps(section).items() if name != CENTERS}
    kept = {name: lines for name, lines in found.items() if max(len(line.values) for line in lines) >= LEAST}
    return _drawn(section, kept, look) if kept else None


def sweeps(section: Section) -> dict[str, list[Line]]:
    """Return by option the lines of two values or more."""
    rows = [(i, row) for i, row in enumerate(section.rows) if row.finished and not row.is_reference]
    names = {name for _, row in rows for name, value in flat(row.runs[0].options) if _number(value)}
    found = {name: _lines(rows, name) for name in sorted(names)}
    return {name: lines for name, lines in found.items() if lines}


def _lines(rows: Sequence[tuple[int, Row]], name: str) -> list[Line]:
    groups: dict[Any, dict[float, int]] = defaultdict(dict)
    kept = dict(rows)
    for i, row in rows:
        known = fields_of(row.runs[0])
        if _number(known.get(name)):
            same = frozenset((key, repr(value)) for key, value in known.items() if not _apart(key, name))
            groups[row.loss, row.backbone, row.embedding_dim, same].setdefault(float(known[name]), i)
    return [
        Line(tuple(sorted(group)), tuple(group[value] for value in sorted(group)), key[0], _others(kept, group, name))
        for key, group in groups.items()
        if len(group) > 1
    ]


def _apart(key: str, name: str) -> bool:
    """Tell whether a field is the option itself, or says nothing of how a run was trained."""
    return key in (name, f"loss.{name}", *FIELDS) or key.partition(".")[0].partition("[")[0] in APART


def _others(rows: Mapping[int, Row], group: Mapping[float, int], name: str) -> dict[str, Any]:
    run = rows[next(iter(group.values()))].runs[0]
    weight = {WEIGHT: fields_of(run).get(WEIGHT)} if name == CENTERS else {}
    options = {key: value for key, value in weight.items() if value is not None} | dict(flat(run.options))
    # the name of a part stands for the part as well
    return {key: value for key, value in options.items() if key != name and not key.endswith(".name")}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _regularized(lines: Sequence[Line]) -> list[Line]:
    """Begin a line with the regularizer where the one without it does, at one center: there is nothing to merge."""
    plain = {line.loss: line for line in lines if line.others.get(WEIGHT) == 0 and line.values[0] == 1}
    return [
        Line((1.0, *line.values), (plain[line.loss].places[0], *line.places), line.loss, line.others)
        if line.loss in plain and line.values[0] > 1
        else line
        for line in lines
    ]


def _drawn(section: Section, found: Mapping[str, Sequence[Line]], look: Looks) -> Figure:
    stands = Standings(section, section.ranked_by)
    names = {name: [_label(line) for line in lines] for name, lines in found.items()}
    heights = [max(3.0, 0.7 + 0.155 * sum(text.count("\n") + 1.35 for text in texts)) for texts in names.values()]
    longest = max(len(part) for texts in names.values() for text in texts for part in text.split("\n"))
    size = max(5.4 + 0.075 * longest, TITLE_WIDTH), sum(heights) + 0.5
    figure = Figure(figsize=size, layout="constrained")
    parts = figure.subfigures(len(found), 1, squeeze=False, height_ratios=heights).ravel()
    for part, (name, lines) in zip(parts, found.items(), strict=True):
        _panel(part, stands, name, lines, look, names[name])
    figure.suptitle(title(section, f"{stands.metric} against {' and '.join(found)}: {sure(stands)}"), fontsize=9)
    return figure


def _panel(
    part: SubFigure, stands: Standings, name: str, lines: Sequence[Line], look: Looks, labels: Sequence[str]
) -> None:
    axes, values = part.subplots(), sorted({value for line in lines for value in line.values})
    for place, (line, label) in enumerate(zip(lines, labels, strict=True)):
        aside = (place - (len(lines) - 1) / 2) * min(0.06, 0.5 / len(lines))
        _line(axes, stands, line, [values.index(value) + aside for value in line.values], look, label)
    every = -(-len(values) // TICKS)
    places = range(0, len(values), every)
    axes.set_xticks(places, [show(values[i]).removesuffix(".0") for i in places])
    axes.set(xlabel=f"{name} (equally spaced)", ylabel=axis_name(stands.metric))
    axes.grid(axis="y")
    part.legend(*axes.get_legend_handles_labels(), loc="outside right upper", handlelength=3.2)


def _line(axes: Axes, stands: Standings, line: Line, xs: Sequence[float], look: Looks, label: str) -> None:
    scale, known = scale_of(stands.metric), [stands.estimates[i] for i in line.places]
    style = look[stands.section.rows[line.places[-1]].key]
    lows, highs = np.array([interval(estimate, scale) for estimate in known]).T
    axes.vlines(xs, lows, highs, colors=style.color, linewidth=1.2, alpha=0.7)
    drawn = marker(style) | ({"markerfacecolor": "white"} if line.others.get(WEIGHT) == 0 else {})
    means = [scale.shown(estimate.mean) for estimate in known]
    axes.plot(xs, means, linestyle=style.line, linewidth=1.3, label=label, **drawn)


def _label(line: Line) -> str:
    others = dict(line.others)
    weight = others.pop(WEIGHT, None)
    said = (
        [] if weight is None else ["no regularizer" if weight == 0 else f"{WEIGHT}={show(weight).removesuffix('.0')}"]
    )
    return folded(line.loss, ", ".join(filter(None, [*said, options_text(others)])), NARROW, 3)
