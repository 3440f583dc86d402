"""A block of queries and what is needed to compare single items with them exactly."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from dml_bench.search.points import Operand
from dml_bench.search.relevance import Relevance
from dml_bench.search.tiles import Rounding

PAIRS = 2**18
"""Numbers of each side of the pairs compared at once: 2 MiB stay in the cache."""
DENSE = 16
"""A tile is multiplied again as a whole if more than this part of it, one in so many, is unsure."""


class Comparison:
    """Some queries, in float64 and as the left side of tiles.

    Attributes:
        exact: ``(n, D)`` the queries.
        left: ``(n, D)`` the same in the precision of tiles.
        scale: ``(n,)`` the product of the lengths, the longest one on the side of the gallery.
        error: ``(n,)`` how far a similarity read off a tile can be off.
        tie: ``(n,)`` how far two float64 similarities of the same vectors can differ.
    """

    def __init__(
        self,
        queries: Operand,
        gallery: Operand,
        relevance: Relevance,
        rows: Int64[np.ndarray, " n"],
        longest: float,
        dtype: torch.dtype,
    ) -> None:
        self.gallery = gallery
        self.exact: Float64[Tensor, "n D"] = queries.take(rows, torch.float64)
        self.left = self.exact.to(dtype)
        rounding = Rounding.of(queries.dim, dtype)
        self.scale = torch.linalg.vector_norm(self.exact, dim=1) * longest
        self.error, self.tie = rounding.error * self.scale, rounding.tie * self.scale
        self.classes = torch.from_numpy(relevance.query_classes[rows]).to(queries.device)
        self.gallery_classes = torch.from_numpy(relevance.gallery_classes).to(queries.device)
        self.own = torch.from_numpy(relevance.own[rows]).to(queries.device)

    def __len__(self) -> int:
        return len(self.left)

    def same(self, rows: Int64[Tensor, " n"], items: Int64[Tensor, "n k"]) -> Bool[Tensor, "n k"]:
        """Return which items are of the class of the query in their row."""
        return self.gallery_classes[items] == self.classes[rows, None]

    def similarities(self, rows: Int64[Tensor, " p"], items: Int64[Tensor, " p"]) -> Float64[Tensor, " p"]:
        """Compare pairs in float64, one at a time, so that equal vectors give equal numbers."""
        found = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
        for some in torch.arange(len(rows), device=rows.device).split(max(1, PAIRS // self.exact.shape[1])):
            right = self.gallery.take(items[some].cpu().numpy(), torch.float64)
            found[some] = torch.einsum("pd,pd->p", self.exact[rows[some]], right)
        return found

    def leave_out_own(self, tile: Float[Tensor, "q g"], part: slice, at: int) -> None:
        """Set the similarity of each query to itself to minus infinity, in a tile whose first column is item ``at``."""
        column = self.own[part] - at
        inside = ((column >= 0) & (column < tile.shape[1])).nonzero()[:, 0]
        tile[inside, column[inside]] = -torch.inf


class Above:
    """Count, for each query, the items of other classes that are no less similar than its nearest relevant one.

    Attributes:
        count: ``(n,)``.
    """

    def __init__(self, compare: Comparison, best: Float64[Tensor, " n"]) -> None:
        self.compare, self.best = compare, best
        dtype, error = compare.left.dtype, compare.error
        end = torch.tensor(torch.inf, dtype=dtype, device=best.device)
        self.low = torch.nextafter((best - compare.tie - error).to(dtype), -end)[:, None]
        self.high = torch.nextafter((best + error).to(dtype), end)[:, None]
        self.count = torch.zeros(len(compare), dtype=torch.int64, device=best.device)

    def see(self, tile: Float[Tensor, "q g"], part: slice, at: int, largest: Float[Tensor, " q"] | None = None) -> None:
        """Count in a tile of the queries ``part``, whose first column is item ``at``.

        What is at least ``high`` is above for certain, what is less than ``low`` is not; the rest is compared again.

        Args:
            tile: similarities, minus infinity where a query meets itself.
            part: the queries.
            at: the first item.
            largest: the largest entry of each row, if known.
        """
        largest = tile.amax(dim=1) if largest is None else largest
        rows = (largest >= self.low[part, 0]).nonzero()[:, 0]
        if not len(rows):
            return
        if 2 * len(rows) < len(tile):  # rows with nothing to count are left out
            tile = tile[rows]
        else:
            rows = torch.arange(len(tile), device=tile.device)
        rows = rows + (part.start or 0)
        ones = tile.new_ones(tile.shape[1])
        room = torch.empty_like(tile)
        certain = torch.mv(torch.ge(tile, self.high[rows], out=room), ones)
        possible = torch.mv(torch.ge(tile, self.low[rows], out=room), ones)
        self.count.index_add_(0, rows, certain.long())
        unsure = (possible > certain).nonzero()[:, 0]
        if not len(unsure):
            return
        pairs = float((possible - certain).sum())
        again = self._all_again if DENSE * pairs > len(unsure) * tile.shape[1] else self._some_again
        again(tile[unsure], rows[unsure], at)

    def _all_again(self, tile: Float[Tensor, "n g"], rows: Int64[Tensor, " n"], at: int) -> None:
        """Multiply the whole tile once more in float64, which is faster where many entries are unsure."""
        items = slice(at, at + tile.shape[1])
        right = self.compare.gallery.take(items, torch.float64)
        above = self.compare.exact[rows] @ right.T >= (self.best - self.compare.tie)[rows, None]
        above &= (tile >= self.low[rows]) & (tile < self.high[rows])
        above &= self.compare.gallery_classes[items] != self.compare.classes[rows, None]
        self.count.index_add_(0, rows, above.sum(dim=1))

    def _some_again(self, tile: Float[Tensor, "n g"], rows: Int64[Tensor, " n"], at: int) -> None:
        """Compare the entries between ``low`` and ``high`` in float64."""
        row, column = ((tile >= self.low[rows]) & (tile < self.high[rows])).nonzero(as_tuple=True)
        row, item = rows[row], column + at
        other = self.compare.gallery_classes[item] != self.compare.classes[row]
        row, item = row[other], item[other]
        above = self.compare.similarities(row, item) >= self.best[row] - self.compare.tie[row]
        self.count.index_add_(0, row, above.long())
