"""Similarities of many queries to many items, a tile at a time: how much is held at once, and how far it can be off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dml_bench.search.points import CHUNK, Operand

SEGMENT = 64
"""Neighbouring entries of which the largest is looked at first."""


def whole_segments(size: int) -> int:
    """Return ``size`` or the next multiple of a segment."""
    return -(-size // SEGMENT) * SEGMENT


@dataclass(frozen=True)
class Rounding:
    """How far computed similarities can be off, per unit of the product of the two lengths.

    Rounding the numbers of both sides and adding up ``dim`` products costs at most ``dim`` and a few units in the last
    place, in whichever order the sum is taken.

    Attributes:
        error: largest difference of an entry of a tile and the same similarity in float64.
        tie: how far two float64 similarities of the same vectors can differ: they count as equal.
    """

    error: float
    tie: float

    @classmethod
    def of(cls, dim: int, dtype: torch.dtype) -> Rounding:
        """Return the bounds for tiles of ``dtype``."""
        return cls((dim + 8) * torch.finfo(dtype).eps / 2 + rounding(dim) / 2, rounding(dim))


def rounding(dim: int) -> float:
    """Return how far two float64 similarities of the same vectors of length 1 can differ: they count as equal."""
    return 2 * (dim + 8) * 2.0**-53


@dataclass(frozen=True)
class Workspace:
    """How much is held at once.

    Attributes:
        queries: queries that go through the gallery together.
        items: items of the gallery that are read together.
        rows: queries of a tile.
        columns: items of a tile; it stays in the cache.
        numbers: float64 numbers of everything else.
    """

    queries: int
    items: int
    rows: int
    columns: int
    numbers: int

    @classmethod
    def within(cls, memory: int, dim: int, each: int, device: torch.device, itemsize: int) -> Workspace:
        """Divide ``memory`` bytes: four tenths for the gallery, as much for queries, ``each`` bytes more of which."""
        rows, columns = (1024, 2048) if device.type == "cpu" else (8192, 8192)
        items = max(columns, int(0.4 * memory) // (dim * itemsize))
        queries = max(rows, int(0.4 * memory) // (dim * (itemsize + 8) + each + 128))
        return cls(queries // rows * rows, items // columns * columns, rows, columns, memory // 64)


class Slabs:
    """The gallery in pieces that fit into memory, each in the place of the one before; one that fits is read once."""

    def __init__(self, gallery: Operand, items: int, dtype: torch.dtype) -> None:
        self.gallery, self.dtype, self.total = gallery, dtype, len(gallery)
        self.starts = range(0, len(gallery), items)
        self.room = torch.empty(min(items, len(gallery)), gallery.dim, dtype=dtype, device=gallery.device)
        self.held = -1

    def __iter__(self) -> Iterator[tuple[int, Float[Tensor, "g D"]]]:
        for start in self.starts:
            slab = self.room[: min(self.starts.step, self.total - start)]
            if self.held != start:
                self._read(slab, start)
            yield start, slab

    def _read(self, slab: Float[Tensor, "g D"], start: int) -> None:
        step = max(1, CHUNK // self.gallery.dim)
        for at in range(0, len(slab), step):
            part = slab[at : at + step]
            part.copy_(self.gallery.take(slice(start + at, start + at + len(part)), self.dtype))
        self.held = start


@contextmanager
def full_precision_products() -> Iterator[None]:
    """Have matrix products computed in the precision of their operands, whatever was set before."""
    before, cuda = torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cuda.matmul.allow_tf32 = cuda
