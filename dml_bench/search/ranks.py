"""The ranks at which a query's relevant items are found: exact, from one pass over tiles of similarities.

No list of neighbors is needed to know where the nearest relevant item ranks: one more than the number of other items
that are no less similar. A tile decides that for all but the items within rounding of the relevant one, which are
compared again in float64. The ranks of further relevant items are counted likewise, as far as they matter; only lists
that FAISS proposes, or that hold a large part of all items, are put in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from dml_bench.search.comparison import Above, Comparison
from dml_bench.search.neighbors import Engine, Nearest, is_deep
from dml_bench.search.points import Operand
from dml_bench.search.relevance import Relevance, most_similar_relevant
from dml_bench.search.targets import Targets
from dml_bench.search.tiles import SEGMENT, Slabs, Workspace, full_precision_products, whole_segments

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
        found: Int64[np.ndarray, " Q"] = self.ranks[self.starts[:-1]]
        return found


def rank(
    queries: Operand,
    gallery: Operand,
    relevance: Relevance,
    depth: int | Int64[np.ndarray, " Q"] = 0,
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
        depth: for all queries or for each, 0 or more: relevant items that rank deeper are left out, but for the
            nearest.
        memory: working memory, bytes.
        engine: ``faiss`` reads ranks off lists that FAISS proposes, ``torch`` counts them in tiles, as ``auto`` does;
            both give the same ranks.
        dtype: of the tiles; float64 is slower and must give the same ranks.
        tell: hears of progress.
    """
    depths = np.minimum(np.broadcast_to(depth, len(queries)), len(gallery)).astype(np.int64)
    asking = relevance.asking
    deepest = int(depths[asking].max(initial=0))
    count = max(1, int(np.minimum(depths, relevance.relevant)[asking].max(initial=1)))
    listing = deepest > 0 and (engine == "faiss" or is_deep(deepest, len(gallery)))
    columns = 40 * deepest if listing else 80 * count
    space = Workspace.within(memory, queries.dim, columns, queries.device, dtype.itemsize)
    mutual = not listing and gallery.center is None and relevance.is_within and len(gallery) <= space.queries
    rows = np.arange(len(queries), dtype=np.int64) if mutual else asking
    longest = gallery.longest()
    with full_precision_products():
        slabs = None if mutual else Slabs(gallery, space.items, dtype)
        for start in range(0, len(rows), space.queries):
            block = rows[start : start + space.queries]
            kept = 1 if listing else count
            values = most_similar_relevant(queries, gallery, relevance, block, kept, space.numbers)
            compare = Comparison(queries, gallery, relevance, block, longest, dtype)
            seen = _Seen.by(compare, values, depths[block], deepest, listing, space)
            steps = _pass(slabs, compare, seen, space) if slabs else _triangle(compare, seen, space)
            for done in steps:
                tell(start + int(done * len(block)), len(rows))
            yield seen.ranks(block, relevance.relevant[block])


@dataclass(frozen=True, eq=False)
class _Seen:
    """What is kept of the tiles that pass by."""

    above: Above
    targets: Targets | None
    nearest: Nearest | None

    @classmethod
    def by(
        cls,
        compare: Comparison,
        values: Float64[Tensor, "n K"],
        depths: Int64[np.ndarray, " n"],
        deepest: int,
        listing: bool,
        space: Workspace,
    ) -> _Seen:
        best = values[:, 0]
        above = Above(compare, best.masked_fill(best.isneginf(), torch.inf))
        if listing:
            return cls(above, None, Nearest(compare, deepest, space))
        limits = torch.from_numpy(depths).to(values.device)
        return cls(above, Targets(compare, values, limits) if deepest else None, None)

    def close(self, tile: Float[Tensor, "q g"], part: slice) -> None:
        """Give up on what a first tile shows to rank too deep."""
        if self.targets:
            self.targets.close(tile, part)

    def rows(self, tile: Float[Tensor, "q g"], part: slice, at: int) -> None:
        """See a tile whose rows are the queries ``part``, and whose first column is item ``at``."""
        pieces = torch.unflatten(tile, 1, (-1, SEGMENT))
        self._see(pieces.amax(dim=2), lambda query, piece: pieces[query, piece], tile, part, at)

    def columns(self, tile: Float[Tensor, "g q"], part: slice, at: int) -> None:
        """See a tile whose columns are the queries ``part``, and whose first row is item ``at``."""
        pieces = torch.unflatten(tile, 0, (-1, SEGMENT))
        self._see(pieces.amax(dim=1).T, lambda query, piece: pieces[piece, :, query], tile.T, part, at)

    def _see(
        self,
        peaks: Float[Tensor, "q s"],
        stretches: Callable[[Tensor, Tensor], Tensor],
        tile: Float[Tensor, "q g"],
        part: slice,
        at: int,
    ) -> None:
        """Look at the stretches whose peak matters; at the whole tile, if that is many of them."""
        total = min(part.stop - part.start, len(peaks))
        for one in (self.above, self.targets):
            if one is None:
                continue
            query, piece = (peaks[:total] >= one.floor[part, None]).nonzero(as_tuple=True)
            if 4 * len(query) > peaks.numel():
                every = torch.arange(total, device=query.device)
                one.see(tile[:total], every + part.start, torch.full_like(every, at))
            elif len(query):
                one.see(stretches(query, piece), query + part.start, at + SEGMENT * piece)

    def ranks(self, queries: Int64[np.ndarray, " n"], relevant: Int64[np.ndarray, " n"]) -> Ranks:
        """Return what was found for the queries that have a relevant item."""
        first = self.above.count.cpu().numpy() + 1
        if self.targets:
            table, known = self.targets.ranks()
        else:
            hits = self.nearest.hits().cpu().numpy() if self.nearest else np.zeros((len(queries), 1), dtype=bool)
            known = np.count_nonzero(hits, axis=1)
            table = np.argsort(~hits, axis=1, kind="stable") + 1  # where the hits are, then the rest
        table[known == 0, 0] = first[known == 0]
        asks = relevant > 0
        known = np.maximum(known, 1)[asks]
        ranks = table[asks][np.arange(table.shape[1]) < known[:, None]]
        return Ranks(queries[asks], relevant[asks], np.concatenate([[0], np.cumsum(known)]), ranks)


def _pass(slabs: Slabs, compare: Comparison, seen: _Seen, space: Workspace) -> Iterator[float]:
    """Let a block of queries see the whole gallery; yield the share of it that is done."""
    room = compare.left.new_empty(min(space.rows, len(compare)), whole_segments(min(space.columns, slabs.total)))
    for at, slab in slabs:
        if seen.nearest:
            seen.nearest.see(slab, at)
        for first in range(0, len(compare), space.rows):
            part = slice(first, min(first + space.rows, len(compare)))
            for start in range(0, len(slab), space.columns):
                right = slab[start : start + space.columns]
                tile = room[: part.stop - first, : whole_segments(len(right))]
                torch.mm(compare.left[part], right.T, out=tile[:, : len(right)])
                tile[:, len(right) :] = -torch.inf
                compare.leave_out_own(tile, part, at + start)
                if at + start == 0:
                    seen.close(tile, part)
                seen.rows(tile, part, at + start)
            yield (at + len(slab) * part.stop / len(compare)) / slabs.total


def _triangle(compare: Comparison, seen: _Seen, space: Workspace) -> Iterator[float]:
    """Let all items see each other: each tile above the diagonal serves its rows and its columns as queries."""
    left, total, size = compare.left, len(compare), whole_segments(space.columns)
    side = min(size, whole_segments(total))
    room = left.new_empty(side, side)
    parts = [slice(start, min(start + size, total)) for start in range(0, total, size)]

    def filled(rows: slice, columns: slice) -> Float[Tensor, "r c"]:
        height, width = rows.stop - rows.start, columns.stop - columns.start
        tile = room[: whole_segments(height), : whole_segments(width)]
        torch.mm(left[rows], left[columns].T, out=tile[:height, :width])
        tile[height:] = -torch.inf
        tile[:, width:] = -torch.inf
        return tile.fill_diagonal_(-torch.inf) if rows == columns else tile

    for part in parts:
        tile = filled(part, part)
        seen.close(tile[: part.stop - part.start], part)
        seen.rows(tile, part, part.start)
    for i, rows in enumerate(parts):
        for columns in parts[i + 1 :]:
            tile = filled(rows, columns)
            seen.columns(tile, columns, rows.start)
            seen.rows(tile, rows, columns.start)
        yield 1 - ((total - rows.stop) / total) ** 2
