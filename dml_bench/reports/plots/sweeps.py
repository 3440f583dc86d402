"""A metric against an option: what is left of a grid when all but one number stays the same."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dml_bench.recipe.identity import APART
from dml_bench.registry import show
from dml_bench.reports.options import options_text
from dml_bench.reports.plots.canvas import NARROW, TITLE_WIDTH, Looks, axis_name, interval, marker, sure, title
from dml_bench.reports.scales import scale_of
from dml_bench.reports.standings import Standings
from dml_bench.reports.statistics import Estimate
from dml_bench.reports.style import RowKey, folded
from dml_bench.reports.summary import Row, Section
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
        rows: one per value.
        key: of the row whose look the line has.
        others: the other options that set these rows apart.
    """

    values: tuple[float, ...]
    rows: tuple[Row, ...]
    key: RowKey
    others: Mapping[str, Any]


def centers_sweep(section: Section, look: Looks) -> Figure | None:
    """Draw the leading metric against the centers of a class, a line with the regularizer and one without.

    None without a loss that has several numbers of centers.

    Source: Qian et al., "SoftTriple Loss: Deep Metric Learning Without Triplet Sampling", ICCV 2019, figure 3.
    """
    lines = sweeps(section).get(CENTERS, [])
    return _of_one(section, {CENTERS: _regularized(lines)}, look) if lines else None


def option_sweep(section: Section, look: Looks) -> Figure | None:
    """Draw the leading metric against every other option, one line per loss and what else sets rows apart.

    None without an option of which a loss has three values, all else the same.
    """
    found = {name: lines for name, lines in sweeps(section).items() if name != CENTERS}
    kept = {name: lines for name, lines in found.items() if max(len(line.values) for line in lines) >= LEAST}
    return _of_one(section, kept, look) if kept else None


def sweeps(section: Section) -> dict[str, list[Line]]:
    """Return by option the lines of two values or more."""
    rows = [row for row in section.rows if row.finished and not row.is_reference]
    names = {name for row in rows for name, value in flat(row.runs[0].options) if is_number(value)}
    found = {name: _lines(rows, name) for name in sorted(names)}
    return {name: lines for name, lines in found.items() if lines}


def line(group: Mapping[float, Row], others: Mapping[str, Any], key: RowKey) -> Line:
    """Return the line through the rows of some values."""
    values = tuple(sorted(group))
    return Line(values, tuple(group[value] for value in values), key, others)


def _lines(rows: Sequence[Row], name: str) -> list[Line]:
    groups: dict[Any, dict[float, Row]] = defaultdict(dict)
    for row in rows:
        known = fields_of(row.runs[0])
        if is_number(known.get(name)):
            same = frozenset((key, repr(value)) for key, value in known.items() if not _apart(key, name))
            groups[row.loss, row.backbone, row.embedding_dim, same].setdefault(float(known[name]), row)
    lines = [group for group in groups.values() if len(group) > 1]
    return [line(group, _others(next(iter(group.values())), name), group[min(group)].key) for group in lines]


def _apart(key: str, name: str) -> bool:
    """Tell whether a field is the option itself, or says nothing of how a run was trained."""
    return key in (name, f"loss.{name}", *FIELDS) or key.partition(".")[0].partition("[")[0] in APART


def _others(row: Row, name: str) -> dict[str, Any]:
    run = row.runs[0]
    weight = {WEIGHT: fields_of(run).get(WEIGHT)} if name == CENTERS else {}
    options = {key: value for key, value in weight.items() if value is not None} | dict(flat(run.options))
    # the name of a part stands for the part as well
    return {key: value for key, value in options.items() if key != name and not key.endswith(".name")}


def is_number(value: Any) -> bool:
    """Tell whether an option's value is a number, which a truth value is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _regularized(lines: Sequence[Line]) -> list[Line]:
    """Begin a line with the regularizer where the one without it does, at one center: there is nothing to merge."""
    plain = {line.key[0]: line for line in lines if line.others.get(WEIGHT) == 0 and line.values[0] == 1}
    return [
        replace(line, values=(1.0, *line.values), rows=(plain[line.key[0]].rows[0], *line.rows))
        if line.key[0] in plain and line.values[0] > 1
        else line
        for line in lines
    ]


def _of_one(section: Section, found: Mapping[str, Sequence[Line]], look: Looks) -> Figure:
    stands = Standings(section, section.ranked_by)
    head = title(section, f"{stands.metric} against {' and '.join(found)}: {sure(stands.estimates)}")
    return drawn([stands], found, look, head)


def drawn(stands: Sequence[Standings], found: Mapping[str, Sequence[Line]], look: Looks, head: str) -> Figure:
    """Draw a panel for each name, and in it its lines.

    Args:
        stands: of every section that lines have rows of, by one metric.
        found: lines by what their values are of.
        look: of the rows.
        head: the title.
    """
    metric = stands[0].metric
    known = {
        (protocol_of(row), row.key): of for s in stands for row, of in zip(s.section.rows, s.estimates, strict=True)
    }
    names = {name: [_label(line) for line in lines] for name, lines in found.items()}
    heights = [max(3.0, 0.7 + 0.155 * sum(text.count("\n") + 1.35 for text in texts)) for texts in names.values()]
    longest = max(len(part) for texts in names.values() for text in texts for part in text.split("\n"))
    size = max(5.4 + 0.075 * longest, TITLE_WIDTH), sum(heights) + 0.5
    figure = Figure(figsize=size, layout="constrained")
    parts = figure.subfigures(len(found), 1, squeeze=False, height_ratios=heights).ravel()
    for part, (name, lines) in zip(parts, found.items(), strict=True):
        axes, values = part.subplots(), sorted({value for line in lines for value in line.values})
        for i, (line, label) in enumerate(zip(lines, names[name], strict=True)):
            aside = (i - (len(lines) - 1) / 2) * min(0.06, 0.5 / len(lines))
            estimates = [known[protocol_of(row), row.key] for row in line.rows]
            _draw(axes, line, [values.index(value) + aside for value in line.values], estimates, metric, look, label)
        places = range(0, len(values), -(-len(values) // TICKS))
        axes.set_xticks(places, [_tick(values[i]) for i in places])
        axes.set(xlabel=f"{name} (equally spaced)", ylabel=axis_name(metric))
        axes.grid(axis="y")
        part.legend(*axes.get_legend_handles_labels(), loc="outside right upper", handlelength=3.2)
    figure.suptitle(head, fontsize=9)
    return figure


def protocol_of(row: Row) -> tuple[str, str]:
    """Return the data set and protocol, which name a section."""
    return row.runs[0].dataset, row.runs[0].protocol_id


def _draw(
    axes: Axes,
    line: Line,
    xs: Sequence[float],
    known: Sequence[Estimate],
    metric: str,
    look: Looks,
    label: str,
) -> None:
    scale, style = scale_of(metric), look[line.key]
    lows, highs = np.array([interval(estimate, scale) for estimate in known]).T
    axes.vlines(xs, lows, highs, colors=style.color, linewidth=1.2, alpha=0.7)
    drawn = marker(style) | ({"markerfacecolor": "white"} if line.others.get(WEIGHT) == 0 else {})
    means = [scale.shown(estimate.mean) for estimate in known]
    axes.plot(xs, means, linestyle=style.line, linewidth=1.3, label=label, **drawn)


def _tick(value: float) -> str:
    return "all" if value == math.inf else show(value).removesuffix(".0")


def _label(line: Line) -> str:
    others = dict(line.others)
    weight = others.pop(WEIGHT, None)
    said = (
        [] if weight is None else ["no regularizer" if weight == 0 else f"{WEIGHT}={show(weight).removesuffix('.0')}"]
    )
    return folded(line.key[0], ", ".join(filter(None, [*said, options_text(others)])), NARROW, 3)
