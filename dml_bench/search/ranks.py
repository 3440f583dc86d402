"""The ranks at which a query's relevant items are found: exact, from one pass over tiles of similarities.

No list of neighbors is needed to know where the nearest relevant item ranks: one more than the number of other items
that are no less similar. A tile decides that for all but the items within rounding of the relevant one, which are
compared again in float64. The ranks of further relevant items are read off a list as deep as asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from dml_bench.search.comparison import Above, Comparison
from dml_bench.search.neighbors import Engine, Nearest
from dml_bench.search.points import Operand
from dml_bench.search.relevance import Relevance, nearest_relevant
from dml_bench.search.tiles import Slabs, Workspace, full_precision_products

Tell = Callable[[int, int], None]
"""Hears how many queries are ranked, of how many."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """Ranks of the relevant items of some queries, counted from 1.

    Attributes:
        queries: ``(Q,)`` which queries these are.
        relevant: ``(Q,)`` how many relevant items each has, R >= 1.
        starts: ``(Q + 1,)`` the ranks of query i are ``ranks[starts[i]:starts[i + 1]]``.
        ranks: ``(P,)`` ascending for each query. The first is always there; deeper ones than asked for may be left out.
    """

    queries: Int64[np.ndarray, " Q"]
    relevant: Int64[np.ndarray, " Q"]
    starts: Int64[np.ndarray, " Q_plus_1"]
    ranks: Int64[np.ndarray, " P"]

    @property
    def first(self) -> Int64[np.ndarray, " Q"]:
        """``(Q,)`` the rank of the nearest relevant item."""
        return self.ranks[self.starts[:-1]]


def rank(
    queries: Operand,
    gallery: Operand,
    relevance: Relevance,
    depth: int = 0,
    *,
    memory: int = 2**30,
    engine: Engine = "auto",
    dtype: torch.dtype = torch.float32,
    tell: Tell = lambda done, total: None,
) -> Iterator[Ranks]:
    """Rank the gallery for every query that has a relevant item, a block of queries at a time.

    At equal similarity, within what float64 can tell, an item of another class ranks before a relevant one.

    Args:
        queries: their product with ``gallery`` is the similarity.
        gallery: what is ranked.
        relevance: which items are relevant to which queries.
        depth: relevant items that rank deeper than this may be left out, but for the nearest; 0 for the nearest alone.
        memory: working memory, bytes.
        engine: who proposes the items of the lists; all engines give the same ranks.
        dtype: of the tiles; float64 is slower and must give the same ranks.
        tell: hears of progress.
    """
    asking, depth = relevance.asking, min(depth, len(gallery))
    space = Workspace.within(memory, queries.dim, depth, queries.device, dtype.itemsize)
    longest = gallery.longest()
    with full_precision_products():
        best = nearest_relevant(queries, gallery, relevance, space.numbers)
        slabs = Slabs(gallery, space.items, dtype)
        for start in range(0, len(asking), space.queries):
            rows = asking[start : start + space.queries]
            compare = Comparison(queries, gallery, relevance, rows, longest, dtype)
            above = Above(compare, best[start : start + len(rows)])
            nearest = Nearest(compare, depth, engine, space) if depth else None
            for done in _pass(slabs, compare, above, nearest, space):
                tell(start + int(done * len(rows)), len(asking))
            hits = nearest.hits().cpu().numpy() if nearest else np.zeros((len(rows), 0), dtype=bool)
            yield _ranks(rows, relevance.relevant[rows], above.count.cpu().numpy() + 1, hits)


def _pass(
    slabs: Slabs, compare: Comparison, above: Above, nearest: Nearest | None, space: Workspace
) -> Iterator[float]:
    """Let a block of queries see the whole gallery; yield the share of it that is done."""
    rows = min(space.rows, len(compare))
    strip = compare.left.new_empty(rows, space.strip)
    room = compare.left.new_empty(rows, space.columns)
    for at, slab in slabs:
        if nearest:
            nearest.see_slab(slab, at)
        for first in range(0, len(compare), rows):
            part = slice(first, min(first + rows, len(compare)))
            for begin in range(0, len(slab), space.strip):
                _fill(strip, room, slab[begin : begin + space.strip], part, at + begin, compare, above)
                if nearest:
                    nearest.see_strip(strip[: part.stop - first], part, at + begin)
            yield (at + len(slab) * part.stop / len(compare)) / slabs.total


def _fill(
    strip: Float[Tensor, "q g"],
    room: Float[Tensor, "q t"],
    items: Float[Tensor, "i D"],
    part: slice,
    at: int,
    compare: Comparison,
    above: Above,
) -> None:
    """Fill the strip with products, and count in each tile of it while it is in the cache."""
    left = compare.left[part]
    strip[:, len(items) :] = -torch.inf
    for start in range(0, len(items), room.shape[1]):
        right = items[start : start + room.shape[1]]
        tile = strip[: len(left), start : start + len(right)]
        torch.mm(left, right.T, out=tile)
        compare.leave_out_own(tile, part, at + start)
        above.see(tile, part, at + start, room[: len(left), : len(right)])


def _ranks(
    queries: Int64[np.ndarray, " Q"],
    relevant: Int64[np.ndarray, " Q"],
    first: Int64[np.ndarray, " Q"],
    hits: Bool[np.ndarray, "Q depth"],
) -> Ranks:
    """Read the ranks off the lists; where a list has no hit, only the first rank is known."""
    missing = np.logical_not(hits.any(axis=1))
    starts = np.concatenate([[0], np.cumsum(np.count_nonzero(hits, axis=1) + missing)])
    ranks = np.empty(starts[-1], dtype=np.int64)
    alone = np.zeros(len(ranks), dtype=bool)
    alone[starts[:-1][missing]] = True
    ranks[alone] = first[missing]
    ranks[~alone] = np.nonzero(hits)[1] + 1
    return Ranks(queries, relevant, starts, ranks)
