"""Retrieval galleries: queries on the left, what is nearest to them on the right."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from PIL import Image

from dml_bench.reports.answers import Answer, Gallery, Shown
from dml_bench.reports.plots.canvas import KINDS, rendered
from dml_bench.reports.style import shortened

TILE, GAP, TEXT, HEADING, TITLE = 0.82, 0.1, 0.37, 0.3, 0.5
"""Inches: side of an image, between images, the text below one, a heading, the title."""

MARGIN = 0.12
PIXELS = 112
"""Longest side of an image in a picture; larger ones are reduced."""

ACROSS = 8
"""What a line holds beside the query."""

LEAST = 6.0
"""Inches that a title needs."""

SIZE = 6
"""Points of the text below an image."""

LETTERS = 15
"""Characters a line of a name, which has two."""

FRAMES = {None: ("black", "-"), True: ("#0072B2", "-"), False: ("#D55E00", (0, (2.5, 1.5)))}
"""Colour and line of a frame: of a query, of what is right, of what is wrong."""

MARKS = {None: "", True: "✓ ", False: "✗ "}


def drawn_gallery(gallery: Gallery, kinds: Sequence[str] = KINDS[:2]) -> dict[str, bytes]:
    """Draw a gallery, and return the bytes by kind: ``png``, ``svg`` or ``pdf``."""
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
    width = max(2 * MARGIN + across * (TILE + GAP) + 2 * GAP, LEAST)
    figure = Figure(figsize=(width, height))
    paper = figure.add_axes((0, 0, 1, 1), frameon=False)  # one for all, in inches: one for each would take seconds
    paper.text(MARGIN, height - MARGIN, gallery.title, va="top", fontsize=9)
    top = height - TITLE
    for block in gallery.blocks:
        if block.heading:
            paper.text(MARGIN, top - HEADING / 5, block.heading, va="top", fontsize=8, fontweight="bold")
            top -= HEADING
        for answer in block.answers:
            _line(paper, answer, top)
            top -= _height(answer)
    paper.set(xlim=(0, width), ylim=(0, height), xticks=[], yticks=[], aspect="auto")
    return figure


def _height(answer: Answer) -> float:
    return (TILE + TEXT) * math.ceil(len(answer.found) / ACROSS)


def _line(paper: Axes, answer: Answer, top: float) -> None:
    first = MARGIN + GAP
    _tile(paper, answer.query, first, top, is_query=True)
    for i, shown in enumerate(answer.found):
        left = first + GAP + (1 + i % ACROSS) * (TILE + GAP)  # the query stands apart
        _tile(paper, shown, left, top - i // ACROSS * (TILE + TEXT))


def _tile(paper: Axes, shown: Shown, left: float, top: float, *, is_query: bool = False) -> None:
    pixels = _small(shown.image)
    high, wide = (TILE * side / max(pixels.shape[:2]) for side in pixels.shape[:2])
    middle, bottom = left + TILE / 2, top - TILE / 2 - high / 2
    extent = (middle - wide / 2, middle + wide / 2, bottom, bottom + high)
    paper.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="none", extent=extent)
    color, line = FRAMES[shown.right]
    width = 2 if is_query or shown.right is not None else 0.8
    frame = Rectangle((extent[0], bottom), wide, high, fill=False, edgecolor=color, linestyle=line, linewidth=width)
    paper.add_patch(frame)
    text = MARKS[shown.right] + "\n".join(filter(None, (*_called(shown), shown.note)))
    paper.text(middle, top - TILE - 0.05, text, ha="center", va="top", fontsize=_size(text), linespacing=1.15)


def _called(shown: Shown) -> tuple[str, ...]:
    """Return two lines at most: of the class or the end of the file's path, or one of each."""
    file = shown.file.rpartition("/")[2]
    if shown.name and file:
        return shortened(" ".join(shown.name.split()), LETTERS), shortened(file, LETTERS)
    return (_folded(shown.name or file),)


def _size(text: str) -> float:
    """Return the size in points at which the longest line, which may have wide letters, is no wider than a tile."""
    return SIZE * min(1.0, 72 * TILE / max(map(_width, text.split("\n"))))


@lru_cache(maxsize=1024)
def _width(line: str) -> float:
    """Return the width of a line in points; short ones, which are narrower than a tile anyway, count as nothing."""
    return float(TextPath((0, 0), line, size=SIZE).get_extents().width) if len(line) > 9 else 1.0


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
