"""Which of a query's nearest items are relevant: lists that are exact however deep.

FAISS proposes items by float32 similarities. Those that are too close for float32 to put in order are compared again
in float64. A query whose list could still depend on an item that was not proposed is ranked against all items. So are
all queries whose lists are to hold a large part of all items.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from dml_bench.search.comparison import Comparison
from dml_bench.search.threads import faiss_threads
from dml_bench.search.tiles import Workspace

Engine = Literal["auto", "faiss", "torch"]

DEEP = 16
"""A list deeper than this part of all items (one in so many) is read off the whole order."""
TOGETHER = 4096
"""Queries that FAISS searches for together."""
SPARE = 12
"""Items proposed beyond the asked depth: enough that rounding rarely reaches the end of the list."""


def is_deep(depth: int, total: int) -> bool:
    """Return whether a list is so deep that a large part of all items has to be put in order anyway."""
    return DEEP * (depth + SPARE) >= total


class Nearest:
    """The nearest items of a block of queries, gathered while the gallery passes by.

    Args:
        compare: the queries.
        depth: how many items a list has, at least 1.
        space: how much may be held at once.
    """

    def __init__(self, compare: Comparison, depth: int, space: Workspace) -> None:
        self.compare, self.depth, self.space = compare, depth, space
        self.proposing = not is_deep(depth, len(compare.gallery))
        size = (len(compare), depth + SPARE if self.proposing else 0)
        self.values = torch.full(size, -torch.inf, dtype=compare.left.dtype, device=compare.left.device)
        self.items = torch.zeros(size, dtype=torch.int64, device=compare.left.device)

    def see(self, slab: Float[Tensor, "g D"], at: int) -> None:
        """Let FAISS propose items of a slab whose first item is ``at``."""
        if not self.proposing:
            return
        import faiss

        items_seen = slab.float().cpu().numpy()  # not put into an index, which would copy it
        count = min(self.values.shape[1] + 1, len(slab))
        with faiss_threads():
            for start in range(0, len(self.compare), TOGETHER):
                where = slice(start, min(start + TOGETHER, len(self.compare)))
                asked = self.compare.left[where].float().cpu().numpy()
                found = faiss.knn(asked, items_seen, count, metric=faiss.METRIC_INNER_PRODUCT)
                values, items = map(torch.from_numpy, found)
                items = items.to(self.items.device) + at
                values = values.to(self.values).masked_fill_(items == self.compare.own[where, None], -torch.inf)
                self._offer(where, values, items)

    def _offer(self, part: slice, values: Float[Tensor, "q k"], items: Int64[Tensor, "q k"]) -> None:
        """Keep the largest of what is held and what is new."""
        values = torch.cat([self.values[part], values], dim=1)
        kept, which = values.topk(self.values.shape[1], dim=1)
        self.values[part] = kept
        self.items[part] = torch.cat([self.items[part], items], dim=1).gather(1, which)

    def hits(self) -> Bool[Tensor, "n depth"]:
        """Return whether the j-th nearest item of query i is relevant; at a tie, items of other classes come first."""
        rows = torch.arange(len(self.compare), device=self.values.device)
        if not self.proposing:
            return self._ranked_again(rows)
        keys = self.values.double()
        end = keys[:, -1] + self.compare.single_error
        keys = self._in_order(keys)
        same = self.compare.same(rows, self.items)
        keys -= self.compare.tie[:, None] * same
        keys, order = keys.sort(dim=1, descending=True)
        found = same.gather(1, order[:, : self.depth]) & keys[:, : self.depth].isfinite()
        unsure = (keys[:, self.depth - 1] <= end + self.compare.tie).nonzero()[:, 0]
        if len(unsure):
            found[unsure] = self._ranked_again(unsure)
        return found

    def _in_order(self, keys: Float64[Tensor, "n k"]) -> Float64[Tensor, "n k"]:
        """Compute in float64 what lies too close to its neighbor in the list to be told apart."""
        least = (2 * self.compare.single_error + self.compare.tie)[:, None]
        close = (keys[:, :-1] - keys[:, 1:]) <= least
        row, column = (torch.nn.functional.pad(close, (0, 1)) | torch.nn.functional.pad(close, (1, 0))).nonzero(
            as_tuple=True
        )
        keys[row, column] = self.compare.similarities(row, self.items[row, column])
        return keys

    def _ranked_again(self, rows: Int64[Tensor, " n"]) -> Bool[Tensor, "n depth"]:
        """Rank some queries against all items in float64, some of each at a time."""
        found = torch.zeros(len(rows), self.depth, dtype=torch.bool, device=rows.device)
        width = min(max(self.space.columns, 2 * self.depth), len(self.compare.gallery))
        size = max(1, self.space.numbers // (3 * (self.depth + width)))
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            keys = torch.full((len(some), self.depth), -torch.inf, dtype=torch.float64, device=rows.device)
            same = torch.zeros_like(keys, dtype=torch.bool)
            for at in range(0, len(self.compare.gallery), width):
                more, is_same = self._keys(some, at, width)
                keys, which = torch.cat([keys, more], dim=1).topk(self.depth, dim=1)
                same = torch.cat([same, is_same], dim=1).gather(1, which)
            found[start : start + size] = same & keys.isfinite()
        return found

    def _keys(
        self, rows: Int64[Tensor, " n"], at: int, width: int
    ) -> tuple[Float64[Tensor, "n w"], Bool[Tensor, "n w"]]:
        """Return what some queries rank the items from ``at`` on by, and which of these are relevant."""
        compare, end = self.compare, min(at + width, len(self.compare.gallery))
        keys = torch.empty(len(rows), end - at, dtype=torch.float64, device=rows.device)
        for start in range(at, end, self.space.columns):
            stop = min(start + self.space.columns, end)
            right = compare.gallery.take(slice(start, stop), torch.float64)
            keys[:, start - at : stop - at] = compare.exact[rows] @ right.T
        same = compare.gallery_classes[at:end] == compare.classes[rows, None]
        keys -= compare.tie[rows, None] * same
        own = compare.own[rows] - at
        inside = ((own >= 0) & (own < end - at)).nonzero()[:, 0]
        keys[inside, own[inside]] = -torch.inf
        return keys, same
