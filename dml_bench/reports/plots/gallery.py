"""Retrieval galleries: queries on the left, what is nearest to them on the right."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from dml_bench.reports.answers import Answer, Gallery, Shown
from dml_bench.reports.plots.canvas import KINDS, rendered
from dml_bench.reports.style import shortened

TILE, GAP, TEXT, HEADING, TITLE = 0.82, 0.1, 0.37, 0.3, 0.45
"""Inches: side of an image, between images, the text below one, a heading, the title."""

MARGIN = 0.12
PIXELS = 112
"""Longest side of an image in a picture; larger ones are reduced."""

ACROSS = 8
"""What a line holds beside the query."""

LEAST = 6.0
"""Inches that a title needs."""

LETTERS = 15
"""Characters a line of a name, which has two."""

FRAMES = {None: ("black", "-"), True: ("#0072B2", "-"), False: ("#D55E00", (0, (2.5, 1.5)))}
"""Colour and line of a frame: of a query, of what is right, of what is wrong."""

MARKS = {None: "", True: "✓ ", False: "✗ "}


def drawn_gallery(gallery: Gallery, kinds: Sequence[str] = KINDS[:2]) -> dict[str, bytes]:
    """Draw a gallery, and return the bytes by kind: ``png``, ``svg`` or ``pdf``."""
    with warnings.catch_warnings():
        # Names are in any script; an SVG keeps them as text, and a PNG has boxes for what the font lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        return rendered(partial(gallery_figure, gallery), kinds)


def gallery_figure(gallery: Gallery) -> Figure:
    """Lay out one line per query: right items have a solid blue frame and a tick, wrong ones a dashed red and a cross.

    What is neither known to be right nor to be wrong has a thin black frame. More than ``ACROSS`` items take further
    lines.
    """
    answers = [answer for block in gallery.blocks for answer in block.answers]
    across = 1 + min(ACROSS, max(len(answer.found) for answer in answers))
    headings = sum(bool(block.heading) for block in gallery.blocks)
    height = TITLE + headings * HEADING + sum(map(_height, answers)) + MARGIN
    figure = Figure(figsize=(max(2 * MARGIN + across * (TILE + GAP) + 2 * GAP, LEAST), height))
    _text(figure, gallery.title, height - MARGIN, fontsize=9)
    top = height - TITLE
    for block in gallery.blocks:
        if block.heading:
            _text(figure, block.heading, top - HEADING / 5, fontsize=8, fontweight="bold")
            top -= HEADING
        for answer in block.answers:
            _line(figure, answer, top)
            top -= _height(answer)
    return figure


def _height(answer: Answer) -> float:
    return (TILE + TEXT) * math.ceil(len(answer.found) / ACROSS)


def _text(figure: Figure, text: str, top: float, **how: Any) -> None:
    """Write a text whose upper end is ``top`` inches from the bottom."""
    width, height = figure.get_size_inches()
    figure.text(MARGIN / width, top / height, text, va="top", **how)


def _line(figure: Figure, answer: Answer, top: float) -> None:
    width, height = figure.get_size_inches()

    def place(shown: Shown, column: int, line: int) -> None:
        left = MARGIN + column * (TILE + GAP) + (2 * GAP if column else GAP)  # the query stands apart
        bottom = top - TILE - line * (TILE + TEXT)
        axes = figure.add_axes((left / width, bottom / height, TILE / width, TILE / height))
        _tile(axes, shown, is_query=column == 0)

    place(answer.query, 0, 0)
    for i, shown in enumerate(answer.found):
        place(shown, 1 + i % ACROSS, i // ACROSS)


def _tile(axes: Axes, shown: Shown, *, is_query: bool) -> None:
    pixels = _small(shown.image)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="none", aspect="equal")
    axes.set(xticks=[], yticks=[])
    color, line = FRAMES[shown.right]
    for spine in axes.spines.values():
        spine.set(
            visible=True, color=color, linestyle=line, linewidth=2 if is_query or shown.right is not None else 0.8
        )
    text = MARKS[shown.right] + _folded(shown.name) + (f"\n{shown.note}" if shown.note else "")
    axes.set_xlabel(text, fontsize=6, labelpad=3, linespacing=1.15, color="black")


def _folded(name: str) -> str:
    """Break a name into two lines at most, behind a blank, ``_``, ``/``, ``.`` or ``-`` where there is one."""
    name = shortened(" ".join(name.split()), 2 * LETTERS)
    cut = (len(name) + 1) // 2 if len(name) > LETTERS else len(name)
    breaks = [found.end() for found in re.finditer(r"[\s_/.-]", name) if 0 < found.end() < len(name)]
    fitting = [at for at in breaks if at <= LETTERS + 1 and len(name) - at <= LETTERS + 1]
    if cut < len(name):
        cut = min(fitting, key=lambda at: abs(at - cut), default=cut)
    return f"{name[:cut].strip()}\n{name[cut:].strip()}".strip()


def _small(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return an image whose sides have at most ``PIXELS`` pixels, grey ones as ``(H, W)``."""
    flat = image[:, :, 0] if image.shape[2] == 1 else image
    if max(flat.shape[:2]) <= PIXELS:
        return flat
    picture = Image.fromarray(np.ascontiguousarray(flat))
    picture.thumbnail((PIXELS, PIXELS), Image.Resampling.LANCZOS)
    return np.asarray(picture)
