"""Vectors that are read, and brought to length 1 if asked for, a block at a time: memory maps stay on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

CHUNK = 2**20
"""Float64 numbers that a block goes through on its way to another precision."""


@runtime_checkable
class Table(Protocol):
    """Numbers by row, such as an array: what vectors are read from."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(M, D)``."""

    def __len__(self) -> int:
        """Return M."""

    def __getitem__(self, which: Any, /) -> npt.NDArray[Any]:
        """Return some rows."""


@dataclass(frozen=True, eq=False)
class Points:
    """Vectors of one length, by row.

    Args:
        values: ``(M, D)`` finite real numbers, which may be a memory map; with ``unit`` no row is zero.
        rows: ``(N,)`` which rows of ``values``, in this order; None for all.
        unit: whether rows are brought to length 1.
        device: where the blocks go.
    """

    values: Table
    rows: Int64[np.ndarray, " N"] | None = None
    unit: bool = True
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __len__(self) -> int:
        return len(self.values if self.rows is None else self.rows)

    @property
    def dim(self) -> int:
        """Numbers per row, D."""
        return int(self.values.shape[1])

    def take(self, which: slice | Int64[np.ndarray, " n"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "n D"]:
        """Return some rows; lengths are divided out in float64 before the result is rounded to ``dtype``."""
        return _in_chunks(self._take, which, len(self), self.dim, dtype)

    def _take(self, which: slice | Int64[np.ndarray, " n"]) -> Float64[Tensor, "n D"]:
        found = np.array(self.values[which if self.rows is None else self.rows[which]], dtype=np.float64)
        block = torch.from_numpy(found).to(self.device)
        if self.unit:
            block /= block.abs().amax(dim=1, keepdim=True)  # squares would overflow or vanish
            block /= torch.linalg.vector_norm(block, dim=1, keepdim=True)
        return block

    def blocks(self, size: int, dtype: torch.dtype = torch.float32) -> Iterator[tuple[slice, Float[Tensor, "n D"]]]:
        """Yield all rows, ``size`` at a time, with where they stand."""
        for start in range(0, len(self), size):
            where = slice(start, min(start + size, len(self)))
            yield where, self.take(where, dtype)


@dataclass(frozen=True, eq=False)
class Operand:
    """One side of the product that is the similarity.

    For the cosine it is the points themselves. For the Euclidean distance, queries are ``[q, 1]`` and gallery items
    ``[g, -|g|^2 / 2]`` after both were moved and scaled alike: a query's products rank as its distances do.
    """

    points: Points
    is_query: bool
    center: Float64[Tensor, " D"] | None = None
    scale: float = 1.0

    def __len__(self) -> int:
        return len(self.points)

    @property
    def dim(self) -> int:
        """Numbers per row."""
        return self.points.dim + (self.center is not None)

    @property
    def device(self) -> torch.device:
        """Where the blocks go."""
        return self.points.device

    def take(self, which: slice | Int64[np.ndarray, " n"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "n D"]:
        """Return some rows, computed in float64 before they are rounded to ``dtype``."""
        if self.center is None:
            return self.points.take(which, dtype)
        return _in_chunks(self._lifted, which, len(self), self.dim, dtype)

    def _lifted(self, which: slice | Int64[np.ndarray, " n"]) -> Float64[Tensor, "n D"]:
        moved = (self.points.take(which, torch.float64) - (0.0 if self.center is None else self.center)) / self.scale
        last = torch.ones_like(moved[:, :1]) if self.is_query else moved.square().sum(dim=1, keepdim=True) / -2
        return torch.cat([moved, last], dim=1)

    def longest(self) -> float:
        """Return the length of the longest row, or 1 if that is more."""
        if self.center is None:
            return 1.0
        size = max(1, CHUNK // self.dim)
        blocks = (self.take(slice(i, i + size), torch.float64) for i in range(0, len(self), size))
        return max(1.0, *(float(torch.linalg.vector_norm(block, dim=1).max()) for block in blocks))


def cosine(queries: Points, gallery: Points) -> tuple[Operand, Operand]:
    """Return operands whose product is the cosine; the points must be of length 1."""
    return Operand(queries, True), Operand(gallery, False)


def euclidean(queries: Points, gallery: Points) -> tuple[Operand, Operand]:
    """Return operands whose product ranks by Euclidean distance; the gallery's mean becomes 0, its largest number 1."""
    size = max(1, CHUNK // gallery.dim)
    center = gallery.take(slice(0, 0), torch.float64).sum(dim=0)
    for _, block in gallery.blocks(size, torch.float64):
        center += block.sum(dim=0) / len(gallery)
    scale = max(float((block - center).abs().max()) for _, block in gallery.blocks(size, torch.float64)) or 1.0
    return Operand(queries, True, center, scale), Operand(gallery, False, center, scale)


def _in_chunks(
    compute: Callable[[Any], Tensor], which: slice | Int64[np.ndarray, " n"], total: int, dim: int, dtype: torch.dtype
) -> Tensor:
    """Compute a few rows at a time in float64, and keep only what they are rounded to."""
    size = max(1, CHUNK // dim)
    begin, end = which.indices(total)[:2] if isinstance(which, slice) else (0, len(which))
    starts = range(begin, end, size)
    parts = [slice(i, min(i + size, end)) for i in starts] or [slice(begin, begin)]
    blocks = (compute(part if isinstance(which, slice) else which[part]) for part in parts)
    first = next(blocks).to(dtype)
    if len(parts) == 1:
        return first
    whole = first.new_empty(end - begin, first.shape[1])
    whole[: len(first)] = first
    for start, block in zip(starts[1:], blocks, strict=True):
        whole[start - begin : start - begin + len(block)] = block
    return whole
