"""Lloyd's iteration by the products of all rows with each other, for few wide rows; time goes to rows that change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from dml_bench.search.cloud import Cloud
from dml_bench.search.nearest import Two, two_smallest
from dml_bench.search.sums import grouped_sums

TILE = 256
"""Rows whose products are taken at once."""
WIDE = 128
"""From how many dimensions on a product of all rows with a center costs more than a few sums of as many numbers."""
SHARE = 100
"""Up to how many rows per cluster their products with each other are soon cheaper than those with moving centers."""


def worthwhile(cloud: Cloud, clusters: int) -> bool:
    """Return whether the table fits the memory and costs less than products with all centers time and again."""
    fits = cloud.held is not None and 4 * len(cloud) * (len(cloud) + clusters + 1) <= cloud.memory
    return fits and cloud.mean.device.type == "cpu" and cloud.points.dim >= WIDE and len(cloud) <= SHARE * clusters


def tabulate(cloud: Cloud, clusters: int) -> Float32[Tensor, "T M"]:
    """Return the products of all rows, room for the distances of C centers from them, and a row of ones.

    One half of the products is computed, the other copied.
    """
    rows, size = cloud.take(slice(None)), len(cloud)
    table = torch.from_numpy(np.empty((size + clusters + 1, size), dtype=np.float32))  # NumPy asks for large pages
    for start in range(0, size, TILE):
        end = min(start + TILE, size)
        torch.mm(rows[start:end], rows[start:].T, out=table[start:end, start:])
        table[end:size, start:end] = table[start:end, end:].T
    return table.index_fill_(0, torch.tensor([len(table) - 1]), 1)


def nearest_rows(table: Float32[Tensor, "T M"], which: Int64[np.ndarray, " a"]) -> Two:
    """Return the two nearest of some rows for each row."""
    rows = torch.from_numpy(which)
    return two_smallest(torch.add(table.diagonal()[rows, None], table[rows], alpha=-2).T, 1)


def lloyd_by_gram(
    cloud: Cloud,
    table: Float32[Tensor, "T M"],
    start: Int64[np.ndarray, " C"],
    index: Int64[Tensor, " M"],
    iterations: int,
    on_limit: Callable[[], None] = lambda: None,
) -> Int64[Tensor, " M"]:
    """Do what ``lloyd`` does with the distances of all centers from all rows at hand.

    They are |c|^2 - 2 x.c, and a center moves by a weighted sum of rows. So its new distances are a weighted sum of
    its old ones, of products of rows and of ones: one of rows of ``table``, where the distances are overwritten.

    Args:
        cloud: the rows.
        table: of them, from ``tabulate``.
        start: which of them the centers are at first.
        index: the nearest of those for each row.
        iterations: upper limit.
        on_limit: is called if rows still changed their cluster in the last of them.
    """
    rows, copies, index = cloud.take(slice(None)), cloud.copies.numpy(), index.clone()
    distances, owner = table[len(rows) : -1], index.numpy()
    counts = np.bincount(owner, copies, len(start))
    sums = grouped_sums(rows, np.arange(len(rows)), owner, copies, len(start)).double()
    taken = torch.from_numpy(counts[:, None])
    centers = torch.where(taken > 0, sums / taken, cloud.take(start)).float()
    norms = centers.square().sum(dim=1)
    torch.addmm(norms[:, None], centers, rows.T, alpha=-2, out=distances)
    state = Moving(table, rows, sums, counts, norms.double().numpy())
    for _ in range(iterations):
        changed = (distances.amin(dim=0) < distances.gather(0, index[None])[0]).nonzero()[:, 0]
        if not len(changed):
            break
        nearest, which = distances[:, changed].min(dim=0).indices, changed.numpy()
        owners = np.concatenate([nearest.numpy(), owner[which]])
        index[changed] = nearest
        state.move(np.tile(which, 2), owners, np.concatenate([copies[which], -copies[which]]))
    else:
        on_limit()
    return index


@dataclass(frozen=True, eq=False)
class Moving:
    """What is known of the centers; ``move`` overwrites it.

    Args:
        table: products, distances and ones.
        rows: all rows.
        sums: of the rows of each cluster.
        counts: how many they are.
        norms: squared lengths of the centers.
    """

    table: Float32[Tensor, "T M"]
    rows: Float32[Tensor, "M D"]
    sums: Float64[Tensor, "C D"]
    counts: Float64[np.ndarray, " C"]
    norms: Float64[np.ndarray, " C"]

    def move(
        self, which: Int64[np.ndarray, " k"], owners: Int64[np.ndarray, " k"], weights: Float64[np.ndarray, " k"]
    ) -> None:
        """Add ``weights`` times the rows ``which`` to the clusters ``owners``; one that is empty then does not move."""
        moved, group = np.unique(owners, return_inverse=True)
        where, size, rows = torch.from_numpy(moved), len(moved), len(self.rows)
        before = self.counts[moved]
        counts = before + np.bincount(group, weights)
        share = np.divide(1, counts, out=np.zeros(size), where=counts > 0)
        sums = self.sums[where].add_(grouped_sums(self.rows, which, group, weights, size))
        norms = np.where(counts > 0, sums.square().sum(dim=1).numpy() * share**2, self.norms[moved])
        kept = np.where(counts > 0, before * share, 1)
        self.table[where + rows] = grouped_sums(
            self.table,
            np.concatenate([which, moved + rows, np.full(size, len(self.table) - 1)]),
            np.concatenate([group, np.arange(size), np.arange(size)]),
            np.concatenate([-2 * weights * share[group], kept, norms - kept * self.norms[moved]]),
            size,
        )
        self.sums[where], self.counts[moved], self.norms[moved] = sums, counts, norms
