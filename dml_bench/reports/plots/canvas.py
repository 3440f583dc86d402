"""What pictures share: names of rows, titles, markers, small panels, and how a figure becomes bytes."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dml_bench.reports.scales import Scale, scale_of
from dml_bench.reports.statistics import Estimate
from dml_bench.reports.style import SETTINGS, Look, RowKey, labels
from dml_bench.reports.summary import Row, Section

Looks = Mapping[RowKey, Look]
PANELS_ACROSS = 4
TITLE_WIDTH, TITLE_LENGTH = 7.5, 96
"""Inches that the longest title needs, and characters of a line that fit there."""
WIDE, NARROW = 46, 34
"""Characters of a row's name before it folds: beside a plot, and above a small panel."""
MOST = 40
KINDS = ("png", "svg", "pdf")


def rendered(picture: Callable[[], Figure | None], kinds: Sequence[str] = KINDS[:2]) -> dict[str, bytes]:
    """Draw in the one style, and return the bytes by kind; empty if the picture does not apply.

    The same picture gives the same bytes: a reader's own matplotlibrc changes nothing, and no date is written.
    """
    with matplotlib.rc_context(), warnings.catch_warnings():
        # Names are in any script; an SVG keeps them as text, and a PNG has boxes for what the font lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        figure = picture()
        return {kind: _bytes(figure, kind) for kind in kinds} if figure else {}


def _bytes(figure: Figure, kind: str) -> bytes:
    content = io.BytesIO()
    undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    figure.savefig(content, format=kind, metadata=undated[kind])
    return content.getvalue()


def panels(
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
    figure.suptitle(title(section, note), fontsize=9)
    return figure


def named(section: Section, width: int) -> list[tuple[Row, str]]:
    """Return the rows with their names, folded to ``width`` characters."""
    return list(zip(section.rows, labels(section, width, 3), strict=True))


def longest(shown: Sequence[tuple[Row, str]]) -> int:
    """Return how many characters the longest line of a name has."""
    return max(len(line) for _, label in shown for line in label.split("\n"))


def title(section: Section, text: str) -> str:
    """Return a title that says what was measured, and then what is shown."""
    first = f"; the first {MOST} of {MOST + section.left_out} rows" if section.left_out else ""
    return f"{section.dataset}, protocol {section.protocol_id}{first}\n{text}"


def of_the_first(picture: Callable[[Section, Looks], Figure | None]) -> Callable[[Section, Looks], Figure | None]:
    """Make a picture of ``MOST`` trained rows at most, and the references: more are no picture."""

    @wraps(picture)
    def cut(section: Section, look: Looks) -> Figure | None:
        trained = [row for row in section.rows if not row.is_reference]
        if len(trained) <= MOST:
            return picture(section, look)
        rows = (*trained[:MOST], *section.references)
        return picture(replace(section, rows=rows, left_out=len(trained) - MOST), look)

    return cut


def spread(section: Section) -> str:
    """Say what bars of one standard deviation rest on."""
    several = any(len(row.finished) > 1 for row in section.rows)
    return "mean and standard deviation over seeds" if several else "one seed, so no spread is known"


def interval(known: Estimate, scale: Scale) -> tuple[float, float]:
    """Return the ends of the 95 percent interval as shown; the mean twice where there is none."""
    low, high = (known.mean, known.mean) if math.isnan(known.low) else (known.low, known.high)
    return scale.shown(low), scale.shown(high)


def sure(found: Sequence[Estimate]) -> str:
    """Say what bars of an interval are about."""
    if not any(known.seeds > 1 for known in found):
        return "one seed, so no interval is known"
    new = "new seeds and classes" if any(known.classes for known in found) else "new seeds"
    return f"95 % intervals for {new}"


def axis_name(metric: str) -> str:
    """Name a metric with its unit."""
    return f"{metric} (%)" if scale_of(metric).percent else metric


def marker(look: Look) -> dict[str, Any]:
    """Return how a line or dot of a row is drawn."""
    hollow = look.fill == "none"
    fill = {"fillstyle": "full" if hollow else look.fill, "markerfacecolor": "white" if hollow else look.color}
    fill |= {"markerfacecoloralt": "white", "markeredgecolor": look.color}
    return {"marker": look.marker, "color": look.color, "markersize": 5.5, "markeredgewidth": 1.0, **fill}
