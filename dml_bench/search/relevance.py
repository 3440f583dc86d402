"""Which items of a gallery are relevant to which queries, and how similar the nearest of them is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from dml_bench.search.points import Operand

AT_ONCE = (16, 1024)
"""The least and the most queries of one class that are compared together, with four times as many items."""


@dataclass(frozen=True, eq=False)
class Relevance:
    """The items of a query's class are relevant to it, but for the query itself.

    Args:
        query_classes: ``(Q,)`` numbered from 0, as those of the gallery.
        gallery_classes: ``(G,)``.
        own: ``(Q,)`` where in the gallery a query itself lies; -1 if it is not in there.
    """

    query_classes: Int64[np.ndarray, " Q"]
    gallery_classes: Int64[np.ndarray, " G"]
    own: Int64[np.ndarray, " Q"]

    @classmethod
    def within(cls, classes: Int64[np.ndarray, " N"]) -> Relevance:
        """Every item is a query for all others."""
        return cls(classes, classes, np.arange(len(classes), dtype=np.int64))

    @cached_property
    def is_within(self) -> bool:
        """Whether the gallery is the queries, in the same order."""
        return len(self.own) == len(self.gallery_classes) and bool((self.own == np.arange(len(self.own))).all())

    @cached_property
    def relevant(self) -> Int64[np.ndarray, " Q"]:
        """``(Q,)`` how many items are relevant to each query."""
        classes = 1 + max(self.query_classes.max(initial=0), self.gallery_classes.max(initial=0))
        counts: Int64[np.ndarray, " Q"] = np.bincount(self.gallery_classes, minlength=classes)[self.query_classes]
        return counts - (self.own >= 0)

    @cached_property
    def asking(self) -> Int64[np.ndarray, " A"]:
        """The queries that have a relevant item."""
        return np.flatnonzero(self.relevant)


def most_similar_relevant(
    queries: Operand, gallery: Operand, relevance: Relevance, rows: Int64[np.ndarray, " n"], count: int, numbers: int
) -> Float64[Tensor, "n count"]:
    """Return how similar the most similar relevant items of some queries are, in float64, descending.

    Where a query has fewer, minus infinity follows. Classes with as many queries and as many items as each other are
    multiplied together.

    Args:
        queries: as for ``rank``.
        gallery: as for ``rank``.
        relevance: as for ``rank``.
        rows: which queries.
        count: how many relevant items of each.
        numbers: float64 numbers held at once.
    """
    found = torch.full((len(rows), count), -torch.inf, dtype=torch.float64, device=queries.device)
    order, classes, first_query, query_counts = _grouped(relevance.query_classes[rows])
    items, item_classes, first_item, item_counts = _grouped(relevance.gallery_classes)
    known = np.isin(classes, item_classes)
    classes, first_query, query_counts = classes[known], first_query[known], query_counts[known]
    there = np.searchsorted(item_classes, classes)
    side = int(np.clip(numbers // (8 * queries.dim), *AT_ONCE))
    shapes, which = np.unique(np.stack([query_counts, item_counts[there]]), axis=1, return_inverse=True)
    for shape, (asks, has) in enumerate(shapes.T.tolist()):
        chosen = np.flatnonzero(which.reshape(-1) == shape)
        for some in _pieces(asks, side):
            for others in _pieces(has, 4 * side):
                size = (len(some) + len(others)) * queries.dim + len(some) * (len(others) + count)
                step = max(1, numbers // size)
                for group in np.split(chosen, range(step, len(chosen), step)):
                    at = order[first_query[group, None] + some]
                    of = items[first_item[there[group], None] + others]
                    _merge(found, at, rows[at], of, queries, gallery, relevance.own)
    return found


def _merge(
    found: Float64[Tensor, "n count"],
    at: Int64[np.ndarray, "m q"],
    rows: Int64[np.ndarray, "m q"],
    of: Int64[np.ndarray, "m g"],
    queries: Operand,
    gallery: Operand,
    own: Int64[np.ndarray, " Q"],
) -> None:
    """Let the entries ``at`` hold the largest of what they hold and of the similarities of ``rows`` to items ``of``."""
    left = queries.take(rows.reshape(-1), torch.float64).view(*rows.shape, -1)
    right = gallery.take(of.reshape(-1), torch.float64).view(*of.shape, -1)
    products = left @ right.mT
    itself = torch.from_numpy(own[rows][:, :, None] == of[:, None, :]).to(products.device)
    products.masked_fill_(itself, -torch.inf)
    where = torch.from_numpy(at).to(found.device)
    count = found.shape[1]
    if count == 1:
        found[where] = torch.maximum(found[where], products.amax(dim=2, keepdim=True))
    else:
        found[where] = torch.cat([found[where], products], dim=2).topk(count, dim=2).values


def _grouped(
    classes: Int64[np.ndarray, " N"],
) -> tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " C"], Int64[np.ndarray, " C"], Int64[np.ndarray, " C"]]:
    """Return the rows class by class, the classes there are, where each begins and how many rows it has."""
    found, first, counts = np.unique(np.sort(classes), return_index=True, return_counts=True)
    return np.argsort(classes, kind="stable"), found, first, counts


def _pieces(total: int, size: int) -> list[Int64[np.ndarray, " n"]]:
    return np.split(np.arange(total), range(size, total, size))
