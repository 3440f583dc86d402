"""The ranks of a query's relevant items, as far as a depth, counted while tiles pass by."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from dml_bench.search.comparison import Comparison

CROWDED = 32
"""Entries per query that are looked at together; where more could matter, a tile is seen in parts."""


class Targets:
    """Relevant items, most similar first, whose rank may still be within the depth; the others are closed.

    A target's rank is its place among the relevant items plus the number of other items that are no less similar. It
    only grows, and closed targets are the last ones. Once the hard ones are closed, next to nothing of a tile is as
    similar as what is left, so that most of it need not be looked at.

    Args:
        compare: the queries.
        values: ``(n, K)`` similarities of the relevant items, descending; minus infinity after the last.
        depth: ``(n,)`` the rank beyond which a target is closed.
    """

    def __init__(self, compare: Comparison, values: Float64[Tensor, "n K"], depth: Int64[Tensor, " n"]) -> None:
        self.compare, self.values, self.depth = compare, values, depth
        self.low, self.high = compare.bounds(values)
        self.added = torch.zeros(values.shape, dtype=torch.int64, device=values.device)
        self.open = (values.isfinite() & (self._places() <= depth[:, None])).sum(dim=1)
        self.floor = torch.full((len(values),), torch.inf, dtype=compare.left.dtype, device=values.device)
        self._lower(torch.arange(len(values), device=values.device))

    def close(self, tile: Float[Tensor, "q g"], part: slice) -> None:
        """Close targets that a single tile shows to rank beyond the depth, whatever the rest of the items."""
        depth = self.depth[part]
        wanted = min(int(depth.max()) + 1, tile.shape[1])
        largest = tile.topk(wanted, dim=1).values.double()
        least = largest.gather(1, depth.clamp(max=wanted - 1)[:, None])[:, 0]
        least[depth >= wanted] = -torch.inf
        bound = least - (2 * self.compare.error + self.compare.tie)[part]
        rows = torch.arange(part.start, part.start + len(tile), device=tile.device)
        self.open[rows] = torch.minimum(self.open[rows], (self.values[rows] >= bound[:, None]).sum(dim=1))
        self._lower(rows)

    def see(self, values: Float[Tensor, "n g"], rows: Int64[Tensor, " n"], at: Int64[Tensor, " n"]) -> None:
        """Count in stretches of entries, each of a query of ``rows`` and beginning with an item of ``at``."""
        near = values >= self.floor[rows, None]
        half = values.shape[1] // 2
        if half and int(torch.count_nonzero(near)) > CROWDED * len(
            rows
        ):  # a part of it may close so many that little is left
            self.see(values[:, :half], rows, at)
            left = (values[:, half:].amax(dim=1) >= self.floor[rows]).nonzero()[:, 0]
            if len(left):
                self.see(values[left, half:], rows[left], at[left] + half)
            return
        stretch, column = near.nonzero(as_tuple=True)
        value, row, item = values[stretch, column], rows[stretch], column + at[stretch]
        other = self.compare.gallery_classes[item] != self.compare.classes[row]
        value, row, item = value[other], row[other], item[other]
        count = int(self.open[rows].max())  # what is closed need not be counted for
        place = _larger(self.low, row, value, count)
        unsure = ((place < count) & (self.high[row, place.clamp(max=count - 1)] > value)).nonzero()[:, 0]
        if len(unsure):
            exact = self.compare.similarities(row[unsure], item[unsure])
            bars = self.values[row[unsure], :count] - self.compare.tie[row[unsure], None]
            place[unsure] = (bars > exact[:, None]).sum(dim=1)
        counted = place < count
        row, place = row[counted], place[counted]
        self.added.view(-1).index_add_(0, row * self.values.shape[1] + place, torch.ones_like(row))
        met = torch.zeros(len(self.open), dtype=torch.bool, device=row.device)
        met[row] = True
        self._lower(met.nonzero()[:, 0])

    def ranks(self) -> tuple[Int64[np.ndarray, "n K"], Int64[np.ndarray, " n"]]:
        """Return the ranks of all targets, and how many of each query's first ones are within the depth."""
        return (self._places() + self.added.cumsum(dim=1)).cpu().numpy(), self.open.cpu().numpy()

    def _places(self) -> Int64[Tensor, " K"]:
        return torch.arange(1, self.values.shape[1] + 1, device=self.values.device)

    def _lower(self, rows: Int64[Tensor, " n"]) -> None:
        """Close what ranks too deep by now, and find what an item must reach to matter."""
        ranks = self._places() + self.added[rows].cumsum(dim=1)
        within = (ranks <= self.depth[rows, None]).sum(dim=1)
        self.open[rows] = opened = torch.minimum(self.open[rows], within)
        last = self.low[rows].gather(1, (opened - 1).clamp(min=0)[:, None])[:, 0]
        self.floor[rows] = torch.where(opened > 0, last, torch.inf)


def _larger(
    table: Float[Tensor, "n K"], rows: Int64[Tensor, " p"], values: Float[Tensor, " p"], count: int
) -> Int64[Tensor, " p"]:
    """Return how many of the first ``count`` entries of each row, which descend, are larger than its value."""
    least = torch.zeros_like(rows)
    most = torch.full_like(rows, count)
    for _ in range(count.bit_length()):  # the number is halved each time
        middle = (least + most) // 2
        larger = (middle < most) & (table[rows, middle.clamp(max=count - 1)] > values)
        least, most = torch.where(larger, middle + 1, least), torch.where(larger, most, middle)
    return least
