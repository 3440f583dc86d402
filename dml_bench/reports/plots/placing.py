"""Texts beside points so that none covers another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.path import Path
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
NEAR, LED, FAR, STEP = 6, 18, 90, 6
"""Points from a dot to its text: right beside it, so far that it needs a line, and at most."""
DOT = 5.0
"""Pixels from the middle of a dot to its edge, and a little more."""

End = tuple[float, float]


def place(axes: Axes, wanted: Sequence[tuple[End, Sequence[str]]], strokes: Sequence[tuple[End, End]] = ()) -> None:
    """Write a text beside each point where it covers no dot, text or stroke, the nearest such place first.

    A text farther off has a line to its point. One for which there is no room is left out.

    Args:
        axes: of a figure that is otherwise done, as its layout decides what covers what.
        wanted: points, and the texts that would do: in bold if there is room beside the point, the last one else.
            Points with several texts come first.
        strokes: ends of level and upright lines.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # fits the axes to what is around them
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    taken = [_box([middle, middle], DOT) for middle in axes.transData.transform([point for point, _ in wanted])]
    taken += [_box(axes.transData.transform(ends), 1.0) for ends in strokes]
    texts: list[Bbox] = []
    for point, choices in sorted(wanted, key=lambda item: -len(item[1])):
        for text in choices:
            note = axes.annotate(text, point, (0, 0), textcoords="offset points", fontsize=7.5, zorder=4)
            note.set(fontweight="bold" if len(choices) > 1 else "normal", in_layout=False)
            reach = range(NEAR, FAR if text is choices[-1] else NEAR + 1, STEP)
            if (box := _free(axes, note, reach, taken, texts, renderer)) is not None:
                texts.append(box)
                break
            note.remove()


def _free(
    axes: Axes,
    note: Annotation,
    reach: Sequence[int],
    taken: Sequence[Bbox],
    texts: Sequence[Bbox],
    renderer: RendererAgg,
) -> Bbox | None:
    """Move a text to the first free place, from which a line to its point crosses no other, and return its box."""
    start = axes.transData.transform(note.xy)
    for far in reach:
        for x, y in SIDES:
            note.set(ha=("center", "left", "right")[x], va=("center", "bottom", "top")[y])
            note.xyann = (x * far, y * far)
            box = note.get_window_extent(renderer)
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
            inside = inside and axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1
            lead = Path(np.array([start, ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)]))
            clear = not any(lead.intersects_bbox(other) for other in texts)
            if inside and clear and not any(box.overlaps(other) for other in (*taken, *texts)):
                if far >= LED:
                    _lead(axes, note)
                return box
    return None


def _lead(axes: Axes, note: Annotation) -> None:
    """Draw a line from a text to its point."""
    line = {"arrowstyle": "-", "linewidth": 0.5, "color": "#444444", "shrinkA": 0, "shrinkB": 3}
    lead = axes.annotate("", note.xy, note.xyann, textcoords="offset points", arrowprops=line)
    lead.set_in_layout(False)


def _box(ends: npt.ArrayLike, around: float) -> Bbox:
    """Return what is within ``around`` pixels of an upright or level line."""
    return Bbox([np.min(ends, axis=0) - around, np.max(ends, axis=0) + around])
