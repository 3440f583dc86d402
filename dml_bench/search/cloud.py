"""The distinct rows of some points, centered and scaled so that float32 tells them apart, in memory where they fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from dml_bench.search.points import Points

ROWS = 1024
"""Rows read at once, if the memory allows."""


@dataclass(frozen=True, eq=False)
class Cloud:
    """Distinct rows in float32 with mean 0 (over all rows) and coordinates in [-1, 1].

    Args:
        points: where the rows come from.
        mean: ``(D,)`` what is subtracted.
        scale: what divides.
        rows: ``(M,)`` which of ``points`` is each distinct row.
        copies: ``(M,)`` how often each occurs.
        place: ``(N,)`` which distinct row each of ``points`` is.
        held: the M rows if they fit the memory, otherwise they are read again each time.
        memory: bytes for the rows that are held, and as much again for a block of them or a table of products.
        norms: ``(M,)`` the squared length of each distinct row.
    """

    points: Points
    mean: Float64[Tensor, " D"]
    scale: float
    rows: Int64[np.ndarray, " M"]
    copies: Float64[Tensor, " M"]
    place: Int64[np.ndarray, " N"]
    held: Float32[Tensor, "M D"] | None
    memory: int
    norms: Float32[Tensor, " M"]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def block(self) -> int:
        """Rows that may be read at once."""
        return _block(self.points, self.memory)

    def take(self, which: slice | Int64[np.ndarray, " n"]) -> Float32[Tensor, "n D"]:
        """Return some distinct rows."""
        if self.held is None:
            return _spread(self.points.take(self.rows[which], torch.float64), self.mean, self.scale)
        return self.held[which] if isinstance(which, slice) else self.held[torch.from_numpy(which).to(self.held.device)]

    def blocks(
        self, size: int = ROWS, which: Int64[np.ndarray, " n"] | None = None
    ) -> Iterator[tuple[slice, Float32[Tensor, "b D"]]]:
        """Yield distinct rows, all of them unless told which, ``size`` at most at a time, with where they stand."""
        total, size = len(self) if which is None else len(which), min(size, self.block)
        for start in range(0, total, size):
            where = slice(start, min(start + size, total))
            yield where, self.take(where if which is None else which[where])


def gather(points: Points, memory: int) -> Cloud:
    """Read ``points`` twice and return their distinct rows.

    Args:
        points: finite rows.
        memory: bytes, of which a half is for the rows; they are held if they fit.
    """
    memory //= 2
    block = min(_block(points, memory), ROWS)
    mean, scale = _extent(points, block)
    fits = 4 * len(points) * points.dim <= memory
    held = torch.empty((len(points), points.dim), device=points.device) if fits else None
    keys, norms = np.empty(len(points), dtype=np.uint64), torch.empty(len(points), device=points.device)
    for where, rows in points.blocks(block, torch.float64):
        near = _spread(rows, mean, scale)
        keys[where] = _keys(near.cpu().numpy())
        norms[where] = near.square().sum(dim=1)
        if held is not None:
            held[where] = near
    _, first, inverse, copies = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    order = first.argsort()
    place = order.argsort()[inverse]
    if len(first) < len(points):
        kept = torch.from_numpy(first[order]).to(points.device)
        norms, held = norms[kept], None if held is None else held[kept]
    times = torch.from_numpy(copies[order].astype(np.float64)).to(points.device)
    return Cloud(points, mean, scale, first[order], times, place, held, memory, norms)


def _block(points: Points, memory: int) -> int:
    return max(1, memory // (32 * points.dim))  # three float64 copies and one in float32


def _extent(points: Points, block: int) -> tuple[Float64[Tensor, " D"], float]:
    """Return the mean and the largest distance to it along a coordinate, 1 if that is 0."""
    total = torch.zeros(points.dim, dtype=torch.float64, device=points.device)
    low, high = torch.full_like(total, torch.inf), torch.full_like(total, -torch.inf)
    for _, rows in points.blocks(block, torch.float64):
        total += rows.sum(dim=0)
        low, high = torch.minimum(low, rows.amin(dim=0)), torch.maximum(high, rows.amax(dim=0))
    mean = total / len(points)
    return mean, float(torch.maximum(high - mean, mean - low).max()) or 1.0


def _spread(rows: Float64[Tensor, "n D"], mean: Float64[Tensor, " D"], scale: float) -> Float32[Tensor, "n D"]:
    return ((rows - mean) / scale).float()


def _keys(rows: Float[npt.NDArray[np.float32], "n D"]) -> npt.NDArray[np.uint64]:
    """Return 64-bit keys: equal rows have equal ones, and different rows different ones but for one pair in 2^60 or so.

    A sum of random multiples of the scrambled bits of each number.
    """
    bits = np.ascontiguousarray(rows + np.float32(0)).view(np.uint32).astype(np.uint64)  # + 0 makes -0 equal to 0
    bits *= np.uint64(0x9E3779B97F4A7C15)
    bits ^= bits >> np.uint64(29)
    factors = np.random.default_rng(0).integers(2**64, size=rows.shape[1], dtype=np.uint64) | np.uint64(1)
    bits *= factors
    keys: npt.NDArray[np.uint64] = bits.sum(axis=1, dtype=np.uint64)
    return keys
