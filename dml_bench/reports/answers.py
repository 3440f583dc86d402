"""What is shown of a search: the images, what they are called, and which of them are right. Needs no matplotlib."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Shown:
    """An image with the text below it.

    Attributes:
        image: ``(H, W, 1 or 3)`` uint8, as the network sees it.
        name: its class; empty if that is not known.
        note: a second line, such as how similar it is.
        file: what it is found by; empty if that does not matter.
        right: whether it is of the query's class; None if that is not known, or it is the query.
    """

    image: npt.NDArray[np.uint8]
    name: str
    note: str = ""
    right: bool | None = None
    file: str = ""


@dataclass(frozen=True, eq=False)
class Answer:
    """A query, and what is nearest to it, nearest first."""

    query: Shown
    found: tuple[Shown, ...]


@dataclass(frozen=True, eq=False)
class Block:
    """Some answers under one heading."""

    heading: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, eq=False)
class Gallery:
    """What a page or picture of searches shows: a title of one or two lines, and at least one block."""

    title: str
    blocks: tuple[Block, ...]
