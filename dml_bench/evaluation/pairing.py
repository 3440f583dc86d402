"""Compare pairs of items: those of a list, or all of two sets, counted in tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int32, Int64
from torch import Tensor

from dml_bench.evaluation.pairs import PairScores
from dml_bench.search.points import Points
from dml_bench.search.tiles import rounding

BINS = 2**21
"""Bins of a histogram of similarities, where pairs are too many to be kept one by one."""
EXACT = 2**21
"""Pairs that are kept one by one, if memory allows: all those of 2,048 items."""
BYTES = 48
"""Bytes per pair kept: the number, its class, and what sorting needs."""
TILE = (512, 2048)
"""Entries of a table computed at once, which stay in the cache."""
FULL = 2**30
"""Pairs after which 32-bit counts are added up; a tile more still fits."""
NEAREST = 4 * 2.0**-32
"""Squared distances up to this are not told apart, where the farthest item is 1 from the mean of all."""


def listed_pairs(
    left: Points,
    right: Points,
    same: Bool[np.ndarray, " P"],
    folds: Int64[np.ndarray, " P"] | None = None,
    *,
    memory: int = 2**30,
) -> PairScores:
    """Compare row i of ``left`` with row i of ``right``, in float64.

    Args:
        left: one item of each pair; ``unit`` asks for cosine similarity, else it is minus the Euclidean distance.
        right: the other item.
        same: whether the two are of the same class.
        folds: as for ``PairScores.of``.
        memory: bytes to work in, beside 9 per pair.
    """
    found = []
    for rows, a in left.blocks(_rows(memory, left.dim), torch.float64):
        b = right.take(rows, torch.float64)
        found.append((a * b).sum(dim=1) if left.unit else -torch.linalg.vector_norm(a - b, dim=1))
    return PairScores.of(torch.cat(found).cpu().numpy() if found else np.empty(0), same, folds)


def all_pairs(
    queries: Points,
    query_labels: Int64[np.ndarray, " Q"],
    gallery: Points,
    gallery_labels: Int64[np.ndarray, " G"],
    own: Int64[np.ndarray, " Q"],
    *,
    memory: int = 2**30,
) -> PairScores:
    """Compare every query with every item of the gallery but itself; two queries in the gallery are compared once.

    Up to ``EXACT`` pairs that fit in ``memory`` are kept one by one, in float64; cosine similarities within rounding
    of each other count as equal, so that duplicates do. More are counted in ``BINS`` bins, and those of one bin count
    as equal. Bins of cosine similarity are 2 / ``BINS`` = 1e-6 wide, and filled from float32 products. Bins of the
    distance grow with it: their width is 2**-17 = 8e-6 of it, and none are told apart below 2**-15 = 3e-5 of the
    greatest distance from the mean of the gallery; they are filled from float64 products.

    Args:
        queries: ``unit`` asks for cosine similarity, else it is minus the Euclidean distance.
        query_labels: their classes, numbered as those of the gallery.
        gallery: what they are compared with, ``unit`` alike.
        gallery_labels: their classes.
        own: the row of each query itself in the gallery, -1 where it is not there; no row twice.
        memory: bytes to work in, beside the labels; less than 100 MB are taken as 100 MB.

    Raises:
        DataError: if there is no pair.
    """
    present = int((own >= 0).sum())
    number = len(queries) * len(gallery) - present * (present + 1) // 2
    table = _Table(queries, query_labels, gallery, gallery_labels, own, memory)
    if number <= EXACT and number * BYTES <= memory:
        return _one_by_one(table)
    return _counted_cosines(table) if queries.unit else _counted_distances(table)


def _rows(memory: int, dim: int) -> int:
    """Return how many rows may be read at once: that takes about four float64 copies, and a quarter of the memory."""
    return max(1, memory // (128 * dim))


Prepare = Callable[[Points, slice], Tensor]


@dataclass(frozen=True, eq=False)
class _Table:
    """All pairs of queries and items of the gallery, a tile at a time."""

    queries: Points
    query_labels: Int64[np.ndarray, " Q"]
    gallery: Points
    gallery_labels: Int64[np.ndarray, " G"]
    own: Int64[np.ndarray, " Q"]
    memory: int

    def tiles(
        self, left: Prepare, right: Prepare, product: Callable[[Tensor, Tensor], Tensor]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield for some pairs ``product`` of ``left`` of the queries and ``right`` of the gallery, and who is same."""
        device, (height, width) = self.queries.device, TILE
        asked = np.zeros(len(self.gallery), dtype=bool)
        asked[self.own[self.own >= 0]] = True
        query_labels, gallery_labels, own, met = (
            torch.from_numpy(a).to(device) for a in (self.query_labels, self.gallery_labels, self.own, asked)
        )
        tall = max(height, _rows(self.memory, self.queries.dim))
        for top in range(0, len(self.queries), tall):
            upper = slice(top, min(top + tall, len(self.queries)))
            a = left(self.queries, upper)
            for start in range(0, len(self.gallery), width):
                cols = slice(start, min(start + width, len(self.gallery)))
                item = torch.arange(cols.start, cols.stop, device=device)
                all_asked = asked[cols].all()
                b = right(self.gallery, cols)
                for row in range(upper.start, upper.stop, height):
                    rows = slice(row, min(row + height, upper.stop))
                    if all_asked and cols.stop - 1 <= self.own[rows].min():
                        continue  # all of these pairs come from the other side
                    values = product(a[rows.start - top : rows.stop - top], b)
                    same = query_labels[rows, None] == gallery_labels[cols]
                    if cols.start <= self.own[rows].max():
                        kept = ~(met[cols] & (item <= own[rows, None]))
                        values, same = values[kept], same[kept]
                    yield values.flatten(), same.flatten()


def _one_by_one(table: _Table) -> PairScores:
    def rows(points: Points, which: slice) -> Float64[Tensor, "n D"]:
        return points.take(which, torch.float64)

    def distance(a: Tensor, b: Tensor) -> Tensor:  # from differences: duplicates come out equal, and 0 as 0
        return -torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")

    unit = table.queries.unit
    parts = [
        (values.cpu().numpy(), same.cpu().numpy())
        for values, same in table.tiles(rows, rows, (lambda a, b: a @ b.T) if unit else distance)
    ]
    values, same = (np.concatenate(part) for part in zip(*parts, strict=True)) if parts else (np.empty(0),) * 2
    return PairScores.of(values, same.astype(bool), tie=rounding(table.queries.dim) if unit else 0.0)


def _counted(
    table: _Table, left: Prepare, right: Prepare, bins: Callable[[Tensor], Tensor]
) -> tuple[Int64[np.ndarray, " B"], Int64[np.ndarray, " B"], Int64[np.ndarray, " B"]]:
    """Return the bins that are not empty, and how many same and different pairs they have."""
    device = table.queries.device
    total = torch.zeros(2 * BINS, dtype=torch.int64, device=device)
    counts = torch.zeros_like(total, dtype=torch.int32)  # half the memory traffic
    one = torch.ones(1, dtype=torch.int32, device=device)
    pending = 0
    for values, same in table.tiles(left, right, lambda a, b: a @ b.T):
        places = bins(values).add_(same, alpha=BINS)
        counts.index_add_(0, places, one.expand(len(places)))
        pending += len(places)
        if pending >= FULL:
            total += counts
            counts.zero_()
            pending = 0
    different, same_pairs = (total + counts).cpu().numpy().reshape(2, BINS)
    found = np.flatnonzero(different + same_pairs)
    return found, same_pairs[found], different[found]


def _counted_cosines(table: _Table) -> PairScores:
    def rows(points: Points, which: slice) -> Float[Tensor, "n D"]:
        return points.take(which)

    found, same, different = _counted(
        table, rows, rows, lambda values: values.add(1).mul_(BINS / 2).int().clamp_(0, BINS - 1)
    )
    return PairScores((found + 0.5) * (2 / BINS) - 1, same, different)


def _counted_distances(table: _Table) -> PairScores:
    """Count squared distances by the leading bits of float32: bins that grow with the distance survive outliers.

    Float64 keeps the distances of duplicates, which cancel, below the first bin.
    """
    step = _rows(table.memory, table.gallery.dim)
    center = sum(rows.sum(dim=0) for _, rows in table.gallery.blocks(step, torch.float64)) / len(table.gallery)
    reach = max(
        float((rows - center).square().sum(dim=1).amax())
        for points in (table.queries, table.gallery)
        for _, rows in points.blocks(step, torch.float64)
    )
    scale = reach**0.5 or 1.0

    def rows(points: Points, which: slice) -> tuple[Tensor, Tensor, Tensor]:
        x = (points.take(which, torch.float64) - center) / scale
        norms = x.square().sum(dim=1, keepdim=True)
        return x, norms, torch.ones_like(norms)

    def left(points: Points, which: slice) -> Float64[Tensor, "n D_plus_2"]:
        x, norms, ones = rows(points, which)
        return torch.cat([-2 * x, norms, ones], dim=1)

    def right(points: Points, which: slice) -> Float64[Tensor, "n D_plus_2"]:
        x, norms, ones = rows(points, which)
        return torch.cat([x, ones, norms], dim=1)

    def bins(squared: Float64[Tensor, " P"]) -> Int32[Tensor, " P"]:
        return squared.float().view(torch.int32).bitwise_right_shift(7).sub_(first).clamp_(0, BINS - 1)

    first = int(np.float32(NEAREST).view(np.int32)) >> 7  # 16 bits of the fraction are left, of 32 powers of two
    found, same, different = _counted(table, left, right, bins)
    distances = np.sqrt(((found + first) << 7).astype(np.int32).view(np.float32).astype(np.float64)) * scale
    return PairScores(-distances[::-1], same[::-1], different[::-1])
