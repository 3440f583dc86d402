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
        error: ``(n,)`` how far a similarity read off a tile can be off.
        single_error: ``(n,)`` the same for tiles of float32, which FAISS knows alone.
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
        scale = torch.linalg.vector_norm(self.exact, dim=1) * longest
        self.error, self.tie = rounding.error * scale, rounding.tie * scale
        self.single_error = Rounding.of(queries.dim, torch.float32).error * scale
        self.classes = torch.from_numpy(relevance.query_classes[rows]).to(queries.device)
        self.gallery_classes = torch.from_numpy(relevance.gallery_classes).to(queries.device)
        self.own = torch.from_numpy(relevance.own[rows]).to(queries.device)

    def __len__(self) -> int:
        return len(self.left)

    def bounds(self, exact: Float64[Tensor, "n ..."]) -> tuple[Float[Tensor, "n ..."], Float[Tensor, "n ..."]]:
        """Return what an entry of a tile must reach to be as similar as ``exact`` possibly, and for certain."""
        error, tie = (bound.view(-1, *[1] * (exact.ndim - 1)) for bound in (self.error, self.tie))
        end = torch.tensor(torch.inf, dtype=self.left.dtype, device=exact.device)
        low, high = (exact - tie - error).to(self.left.dtype), (exact + error).to(self.left.dtype)
        return torch.nextafter(low, -end), torch.nextafter(high, end)

    def same(self, rows: Int64[Tensor, " n"], items: Int64[Tensor, "n k"]) -> Bool[Tensor, "n k"]:
        """Return which items are of the class of the query in their row."""
        return self.gallery_classes[items] == self.classes[rows, None]

    def similarities(self, rows: Int64[Tensor, " p"], items: Int64[Tensor, " p"]) -> Float64[Tensor, " p"]:
        """Compare pairs in float64, one at a time, so that equal vectors give equal numbers."""
        found = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
        size = max(1, PAIRS // self.exact.shape[1])
        for start in range(0, len(rows), size):
            some = slice(start, start + size)
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
        floor: ``(n,)`` what an entry must reach to matter.
    """

    def __init__(self, compare: Comparison, best: Float64[Tensor, " n"]) -> None:
        self.compare, self.best = compare, best
        self.floor, self.high = compare.bounds(best)
        self.count = torch.zeros(len(compare), dtype=torch.int64, device=best.device)

    def see(self, values: Float[Tensor, "n g"], rows: Int64[Tensor, " n"], at: Int64[Tensor, " n"]) -> None:
        """Count in stretches of entries, each of a query of ``rows`` and beginning with an item of ``at``.

        What is at least ``high`` is above for certain, what is less than ``floor`` is not; the rest is compared again.
        """
        ones, room = values.new_ones(values.shape[1]), torch.empty_like(values)
        possible = torch.mv(torch.ge(values, self.floor[rows, None], out=room), ones)
        certain = torch.mv(torch.ge(values, self.high[rows, None], out=room), ones)
        self.count.index_add_(0, rows, certain.long())
        unsure = (possible > certain).nonzero()[:, 0]
        if not len(unsure):
            return
        pairs = float((possible - certain).sum())
        crowded = DENSE * pairs > len(unsure) * values.shape[1] and bool((at == at[0]).all())
        again = self._all_again if crowded else self._some_again
        again(values[unsure], rows[unsure], at[unsure])

    def _all_again(self, values: Float[Tensor, "n g"], rows: Int64[Tensor, " n"], at: Int64[Tensor, " n"]) -> None:
        """Multiply the same items by all rows once more in float64, which is faster where many entries are unsure."""
        items = slice(int(at[0]), min(int(at[0]) + values.shape[1], len(self.compare.gallery)))
        right = self.compare.gallery.take(items, torch.float64)
        values = values[:, : len(right)]
        above = self.compare.exact[rows] @ right.T >= (self.best - self.compare.tie)[rows, None]
        above &= (values >= self.floor[rows, None]) & (values < self.high[rows, None])
        above &= self.compare.gallery_classes[items] != self.compare.classes[rows, None]
        self.count.index_add_(0, rows, above.sum(dim=1))

    def _some_again(self, values: Float[Tensor, "n g"], rows: Int64[Tensor, " n"], at: Int64[Tensor, " n"]) -> None:
        """Compare the entries between ``floor`` and ``high`` in float64."""
        stretch, column = ((values >= self.floor[rows, None]) & (values < self.high[rows, None])).nonzero(as_tuple=True)
        row, item = rows[stretch], column + at[stretch]
        other = self.compare.gallery_classes[item] != self.compare.classes[row]
        row, item = row[other], item[other]
        above = self.compare.similarities(row, item) >= self.best[row] - self.compare.tie[row]
        self.count.index_add_(0, row, above.long())
