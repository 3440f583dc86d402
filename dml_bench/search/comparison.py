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


class Comparison:
    """Some queries, in float64 and as the left side of tiles.

    Attributes:
        left: ``(n, D)`` the queries divided by ``width``; products with it, times ``width``, are similarities.
        width: ``(n,)`` twice the distance at which a tile can tell two similarities apart for certain.
        error: ``(n,)`` largest error of a similarity read off a tile.
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
        rounding = Rounding.of(queries.dim, dtype)
        scale = torch.linalg.vector_norm(self.exact, dim=1) * longest
        self.error, self.tie = rounding.error * scale, rounding.tie * scale
        self.width = 2.02 * (self.error + self.tie)
        self.left = (self.exact / self.width[:, None]).to(dtype)
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
        """Set the similarity of each query to itself to minus infinity."""
        column = self.own[part] - at
        inside = ((column >= 0) & (column < tile.shape[1])).nonzero()[:, 0]
        if len(inside):
            tile[inside, column[inside]] = -torch.inf


class Above:
    """Count, for each query, the items of other classes that are no less similar than its nearest relevant one.

    Attributes:
        count: ``(n,)``.
    """

    def __init__(self, compare: Comparison, best: Float64[Tensor, " n"]) -> None:
        self.compare, self.best = compare, best
        self.offset = (0.5 - best / compare.width)[:, None].to(compare.left.dtype)
        self.count = torch.zeros(len(compare), dtype=torch.int64, device=best.device)

    def see(self, tile: Float[Tensor, "q g"], part: slice, at: int, room: Float[Tensor, "q g"]) -> None:
        """Count in a tile of ``left`` times gallery, whose first column is item ``at``.

        Each entry becomes 1 if it is above for certain, 0 if it is below, and something between if it must be compared
        again; then a row adds up to no whole number.
        """
        steps = torch.add(tile, self.offset[part], out=room).clamp_(0, 1)
        sums = steps.sum(dim=1) if steps.device.type == "cuda" else torch.mv(steps, steps.new_ones(steps.shape[1]))
        whole = sums.floor()
        unsure = (sums != whole).nonzero()[:, 0]
        if len(unsure):
            whole[unsure] = self._again(steps[unsure], unsure + part.start, at)
        self.count[part] += whole.long()

    def _again(self, steps: Float[Tensor, "n g"], rows: Int64[Tensor, " n"], at: int) -> Float[Tensor, " n"]:
        """Count rows that hold entries between 0 and 1."""
        row, column = ((steps > 0) & (steps < 1)).nonzero(as_tuple=True)
        other = ~self.compare.same(rows[row], (column + at)[:, None])[:, 0]
        row, column = row[other], column[other]
        above = self.compare.similarities(rows[row], column + at) > (self.best - self.compare.tie)[rows[row]]
        return (steps == 1).sum(dim=1).to(steps.dtype).index_add_(0, row[above], steps.new_ones(int(above.sum())))
