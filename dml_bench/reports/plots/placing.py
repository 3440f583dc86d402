"""Texts beside points so that none covers another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.path import Path
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
NEAR, FAR, STEP = 6, 90, 6
"""Points from a dot to its text."""
DOT = 5.0
"""Pixels from the middle of a dot to its edge, and a little more."""


def place(
    axes: Axes,
    wanted: Sequence[tuple[tuple[float, float], str, bool]],
    strokes: Sequence[tuple[tuple[float, float], tuple[float, float]]] = (),
) -> None:
    """Write each text beside its point where it covers no dot, text or stroke, the nearest such place first.

    A text farther off has a line to its point. One for which there is no room is left out.

    Args:
        axes: of a figure that is otherwise done, as its layout decides what covers what.
        wanted: point, text, and whether it comes first and in bold.
        strokes: ends of level and upright lines.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # fits the axes to what is around them
    middles = axes.transData.transform([point for point, _, _ in wanted])
    taken = [Bbox.from_extents(x - DOT, y - DOT, x + DOT, y + DOT) for x, y in middles]
    for first_end, last_end in strokes:
        (x0, y0), (x1, y1) = axes.transData.transform([first_end, last_end])
        taken.append(Bbox.from_extents(min(x0, x1), min(y0, y1) - 1, max(x0, x1) + 1, max(y0, y1)))
    texts: list[Bbox] = []
    for point, text, first in sorted(wanted, key=lambda item: not item[2]):
        note = axes.annotate(text, point, (0, 0), textcoords="offset points", fontsize=7.5, zorder=4)
        note.set(fontweight="bold" if first else "normal", in_layout=False)
        if (box := _free(axes, note, taken, texts)) is not None:
            taken.append(box)
            texts.append(box)
        else:
            note.remove()


def _free(axes: Axes, note: Annotation, taken: Sequence[Bbox], texts: Sequence[Bbox]) -> Bbox | None:
    """Move a text to the first free place, from which a line to its point crosses no other, and return its box."""
    start = axes.transData.transform(note.xy)
    for far in range(NEAR, FAR, STEP):
        for x, y in SIDES:
            note.set(ha=("center", "left", "right")[x], va=("center", "bottom", "top")[y])
            note.xyann = (x * far, y * far)
            box = note.get_window_extent()
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
            inside = inside and axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1
            lead = Path(np.array([start, ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)]))
            clear = not any(lead.intersects_bbox(other) for other in texts)
            if inside and clear and not any(box.overlaps(other) for other in taken):
                if far > 2 * NEAR:
                    _lead(axes, note)
                return box
    return None


def _lead(axes: Axes, note: Annotation) -> None:
    """Draw a line from a text to its point."""
    line = {"arrowstyle": "-", "linewidth": 0.5, "color": "#444444", "shrinkA": 0, "shrinkB": 3}
    lead = axes.annotate("", note.xy, note.xyann, textcoords="offset points", arrowprops=line)
    lead.set_in_layout(False)
