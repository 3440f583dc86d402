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
    depth = min(depth, len(gallery))
    space = Workspace.within(memory, queries.dim, depth, queries.device, dtype.itemsize)
    longest = gallery.longest()
    with full_precision_products():
        best = nearest_relevant(queries, gallery, relevance, space.numbers)
        mutual = not depth and gallery.center is None and relevance.is_within and len(gallery) <= space.queries
        slabs = None if mutual else Slabs(gallery, space.items, dtype)
        rows = np.arange(len(queries), dtype=np.int64) if mutual else relevance.asking
        for start in range(0, len(rows), space.queries):
            block = rows[start : start + space.queries]
            compare = Comparison(queries, gallery, relevance, block, longest, dtype)
            above = Above(compare, best[torch.from_numpy(block).to(best.device)])
            nearest = Nearest(compare, depth, engine, space) if depth else None
            steps = _pass(slabs, compare, above, nearest, space) if slabs else _triangle(compare, above, space)
            for done in steps:
                tell(start + int(done * len(block)), len(rows))
            hits = nearest.hits().cpu().numpy() if nearest else np.zeros((len(block), 0), dtype=bool)
            asks = relevance.relevant[block] > 0
            first = above.count.cpu().numpy() + 1
            yield _ranks(block[asks], relevance.relevant[block[asks]], first[asks], hits[asks])


def _pass(
    slabs: Slabs, compare: Comparison, above: Above, nearest: Nearest | None, space: Workspace
) -> Iterator[float]:
    """Let a block of queries see the whole gallery; yield the share of it that is done."""
    rows = min(space.rows, len(compare))
    room = compare.left.new_empty(rows, space.strip)
    for at, slab in slabs:
        if nearest:
            nearest.see_slab(slab, at)
        for first in range(0, len(compare), rows):
            part = slice(first, min(first + rows, len(compare)))
            for begin in range(0, len(slab), space.strip):
                strip = room[: part.stop - first]
                _fill(strip, slab[begin : begin + space.strip], part, at + begin, compare, above, space.columns)
                if nearest:
                    nearest.see_strip(strip, part, at + begin)
            yield (at + len(slab) * part.stop / len(compare)) / slabs.total


def _fill(
    strip: Float[Tensor, "q g"],
    items: Float[Tensor, "i D"],
    part: slice,
    at: int,
    compare: Comparison,
    above: Above,
    columns: int,
) -> None:
    """Fill the strip with similarities to items from ``at`` on, and count in each tile while it is in the cache."""
    strip[:, len(items) :] = -torch.inf
    for start in range(0, len(items), columns):
        right = items[start : start + columns]
        tile = strip[:, start : start + len(right)]
        torch.mm(compare.left[part], right.T, out=tile)
        compare.leave_out_own(tile, part, at + start)
        above.see(tile, part, at + start)


def _triangle(compare: Comparison, above: Above, space: Workspace) -> Iterator[float]:
    """Let all items see each other: each tile above the diagonal serves its rows and its columns as queries."""
    slab, total = compare.left, len(compare)
    room = slab.new_empty(space.columns, space.columns)
    for first in range(0, total, space.columns):
        rows = slice(first, min(first + space.columns, total))
        for start in range(first, total, space.columns):
            columns = slice(start, min(start + space.columns, total))
            tile = room[: rows.stop - first, : columns.stop - start]
            torch.mm(slab[rows], slab[columns].T, out=tile)
            if start == first:
                tile.fill_diagonal_(-torch.inf)
            else:
                above.see(tile.T, columns, first)
            above.see(tile, rows, start)
        yield 1 - ((total - rows.stop) / total) ** 2


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
