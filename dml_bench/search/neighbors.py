"""Exact nearest neighbors: for each item, which of its nearest others are of its class.

FAISS proposes candidates from a float32 product. Their similarities are then computed in float64, where exact
duplicates come out equal, and a query whose answer could still depend on an item that FAISS left out is ranked again
against all items. The result is that of a full float64 ranking, whichever engine finds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64

from dml_bench.errors import DataError
from dml_bench.search.threads import faiss_threads

Engine = Literal["auto", "faiss", "torch"]

SPARE = 12
"""Candidates beyond the asked depth: enough that rounding rarely reaches the end of the list."""
BLOCK = 4096
"""Queries ranked together at most; FAISS is several times slower per query on 1024 or fewer."""
WORKSPACE = 2**22
"""Float64 numbers held at once."""
GATHER = 2**18
"""Float64 numbers gathered at once: 2 MiB stay in the cache."""


def hits(
    embeddings: Float64[np.ndarray, "N D"], labels: Int64[np.ndarray, " N"], depth: int, *, engine: Engine = "auto"
) -> Iterator[tuple[Int64[np.ndarray, " Q"], Bool[np.ndarray, "Q K"]]]:
    """Rank all other items for every query by cosine similarity; yield blocks of (query rows, hits).

    ``hits[i, j]`` says whether the ``j``-th nearest item (counted from 0) of query ``i`` is of its class. The query
    itself is left out by its row, so duplicates of it stay in. An item of another class ranks before every item of the
    query's class that is more similar by no more than ``rounding``. Items whose class has no second item are no queries
    but can be found.

    Args:
        embeddings: rows of length 1.
        labels: the class of each row; any integers.
        depth: how many neighbors to rank, at least 1; K is this or N - 1 if that is less.
        engine: ``faiss`` searches with a FAISS index; ``torch`` ranks all items in float64; ``auto`` takes FAISS unless
            the depth is a large part of N. All give the same result.

    Raises:
        DataError: if no class has two items.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, not {depth}")
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    queries = np.flatnonzero(counts[codes] > 1)
    if not len(queries):
        raise DataError(f"no class has two items ({len(labels)} items in all), so there is nothing to retrieve")
    depth = min(depth, len(labels) - 1)
    if engine == "auto":
        engine = "torch" if 16 * (depth + SPARE) >= len(labels) else "faiss"
    step = max(1, min(BLOCK, WORKSPACE // depth))
    search = _FaissSearch(embeddings, codes, depth) if engine == "faiss" else _FullSearch(embeddings, codes, depth)
    return ((rows, search(rows)) for rows in np.split(queries, range(step, len(queries), step)))


def rounding(dim: int) -> float:
    """Return how far two float64 similarities of the same unit vectors, up to scale, can differ: they count as equal.

    Normalising costs each number at most 3 roundings and a similarity ``dim`` more, in either order of summation.
    """
    return 2 * (dim + 8) * 2.0**-53


class _FullSearch:
    """Rank against all items in float64."""

    def __init__(self, embeddings: Float64[np.ndarray, "N D"], labels: Int64[np.ndarray, " N"], depth: int) -> None:
        self.embeddings, self.labels, self.depth = torch.from_numpy(embeddings), torch.from_numpy(labels), depth
        self.tie = rounding(embeddings.shape[1])

    def __call__(self, queries: Int64[np.ndarray, " Q"]) -> Bool[np.ndarray, "Q K"]:
        step = max(1, WORKSPACE // len(self.labels))
        parts = [self._block(torch.from_numpy(queries[i : i + step])) for i in range(0, len(queries), step)]
        return torch.cat(parts).numpy()

    def _block(self, queries: torch.Tensor) -> torch.Tensor:
        same = self.labels[queries, None] == self.labels
        keys = self.embeddings[queries] @ self.embeddings.T
        keys.sub_(same.double(), alpha=self.tie)  # the query's own class is held back, so at a tie it comes last
        keys.scatter_(1, queries[:, None], -torch.inf)
        return same.gather(1, keys.topk(self.depth).indices)


class _FaissSearch:
    """Rank the candidates of a FAISS index in float64, and against all items where that is not certain."""

    def __init__(self, embeddings: Float64[np.ndarray, "N D"], labels: Int64[np.ndarray, " N"], depth: int) -> None:
        import faiss

        total, dim = embeddings.shape
        self.embeddings, self.labels, self.depth = embeddings, labels, depth
        self.tie = rounding(dim)
        self.candidates = min(depth + 1 + SPARE, total)
        self.rounded: Float32[np.ndarray, "N D"] = embeddings.astype(np.float32)
        # Unit vectors rounded to float32, then dim products and sums: no order of summation can be further off.
        self.error = (dim + 8) * 2.0**-24
        self.index: Any = faiss.IndexFlatIP(dim)
        self.index.add(self.rounded)
        self.full = _FullSearch(embeddings, labels, depth)

    def __call__(self, queries: Int64[np.ndarray, " Q"]) -> Bool[np.ndarray, "Q K"]:
        with faiss_threads():
            similarities, items = self.index.search(self.rounded[queries], self.candidates)
        same = self.labels[items] == self.labels[queries, None]
        keys = self._similarities(queries, items) - self.tie * same  # held back at a tie, as in the full search
        keys[items == queries[:, None]] = -np.inf
        order = np.argsort(-keys, axis=1)[:, : self.depth]
        result: Bool[np.ndarray, "Q K"] = np.take_along_axis(same, order, axis=1)
        if self.candidates < len(self.labels):
            last = np.take_along_axis(keys, order[:, -1:], axis=1)[:, 0]
            uncertain = last <= similarities[:, -1] + self.error
            if uncertain.any():
                result[uncertain] = self.full(queries[uncertain])
        return result

    def _similarities(
        self, queries: Int64[np.ndarray, " Q"], items: Int64[np.ndarray, "Q K"]
    ) -> Float64[np.ndarray, "Q K"]:
        """Return each query's similarity to its items, one pair at a time, so that equal vectors give equal numbers."""
        step = max(1, GATHER // (items.shape[1] * self.embeddings.shape[1]))
        parts = [
            np.einsum("qkd,qd->qk", self.embeddings[items[i : i + step]], self.embeddings[queries[i : i + step]])
            for i in range(0, len(queries), step)
        ]
        return np.concatenate(parts)
