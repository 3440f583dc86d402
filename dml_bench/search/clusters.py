"""Exact k-means on all points from a k-means++ start, seeded; time goes to what changes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from dml_bench.search.cloud import Cloud, gather
from dml_bench.search.gram import lloyd_by_gram, nearest_rows, tabulate, worthwhile
from dml_bench.search.lloyd import ITERATIONS, lloyd
from dml_bench.search.nearest import Engine, Two, nobody, search
from dml_bench.search.points import Points

MEMORY = 2**30
"""Bytes for the points that are held, in float32, and for a block of them; more points are read again each time."""
CANDIDATES = (16, 2048)
"""The least and the most candidates for a center that are drawn together."""
TINY = float(np.finfo(np.float32).tiny)
"""What rounding leaves of a squared distance is made no smaller, so that any row but a center can still be drawn."""


def kmeans(
    points: Points | npt.NDArray[Any], clusters: int, seed: int, *, engine: Engine = "auto", memory: int = MEMORY
) -> Int64[np.ndarray, " N"]:
    """Return the cluster of each point under Euclidean k-means from a k-means++ start.

    The result depends on the points and ``seed`` alone, but for rounding where ``engine``, ``memory`` or the device
    differ. Equal points share a cluster. Where there are no more than ``clusters`` distinct points, each is a cluster
    of its own. A cluster that loses all its points keeps its center, and may win some again.

    Args:
        points: finite rows; an array ``(N, D)`` is taken as it is, not brought to length 1.
        clusters: how many, at least 1; may exceed N.
        seed: 0 or more.
        engine: who finds the nearest centers.
        memory: bytes, beside a few numbers per point and the centers.

    Differs: scikit-learn also stops when the squared shift of the centers falls to 1e-4 of the mean variance of the
        coordinates, less than a single row that changes its cluster of 60 causes in 512 dimensions. Here an
        iteration costs what changes in it, and all changes are followed to the end, or for 100 iterations.

    Source: Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007, section 2.2; Lloyd,
        "Least squares quantization in PCM", IEEE Transactions on Information Theory 28, 1982.
    """
    return next(restarts(points, clusters, [seed], engine=engine, memory=memory))


def restarts(
    points: Points | npt.NDArray[Any],
    clusters: int,
    seeds: Sequence[int],
    *,
    engine: Engine = "auto",
    memory: int = MEMORY,
    on_limit: Callable[[], None] = lambda: None,
) -> Iterator[Int64[np.ndarray, " N"]]:
    """Yield what ``kmeans`` returns for each seed; the points and their products are prepared once for all.

    ``on_limit`` is called for each seed whose clusters still changed when the iterations were used up.
    """
    if clusters < 1:
        raise ValueError(f"clusters must be at least 1, not {clusters}")
    cloud = gather(points if isinstance(points, Points) else Points(points, unit=False), memory)
    if len(cloud) <= clusters:
        yield from (cloud.place.copy() for _ in seeds)
        return
    table = tabulate(cloud, clusters) if engine == "auto" and worthwhile(cloud, clusters) else None
    for seed in seeds:
        start, state = plus_plus(cloud, clusters, np.random.default_rng(seed), engine, table)
        if table is None:
            found = lloyd(cloud, start, state, engine, on_limit)
        else:
            found = lloyd_by_gram(cloud, table, start, state.center, ITERATIONS, on_limit)
        yield found.cpu().numpy()[cloud.place]


def plus_plus(
    cloud: Cloud,
    clusters: int,
    generator: np.random.Generator,
    engine: Engine = "auto",
    table: Float32[Tensor, "T M"] | None = None,
) -> tuple[Int64[np.ndarray, " C"], Two]:
    """Draw centers among the rows, each with probability proportional to the squared distance to those before.

    Many candidates are drawn at once by the distances to the centers so far. Taken in turn, one is accepted with
    probability (distance now) / (distance when drawn), which leaves the distribution as it is (rejection sampling).

    Args:
        cloud: more distinct rows than ``clusters``.
        clusters: how many centers, C.
        generator: of the draws.
        engine: who finds the nearest centers.
        table: of the rows, from ``tabulate``; if given, nobody needs to find any.

    Returns:
        Which rows the centers are, and the two nearest centers of each row.
    """
    copies = cloud.copies.cpu().numpy()
    chosen = _draw(copies, 1, generator)
    state = _offer(cloud, nobody(len(cloud), cloud.mean.device), chosen, 0, engine, table)
    while len(chosen) < clusters:
        squared = (state.first + cloud.norms).double().cpu().numpy().clip(min=TINY)
        squared[chosen] = 0
        size = int(np.clip(len(chosen), *CANDIDATES))
        candidates = _draw(copies * squared, size, generator)
        accepted = _accept(cloud, candidates, squared, generator)[: clusters - len(chosen)]
        state = _offer(cloud, state, accepted, len(chosen), engine, table)
        chosen = np.concatenate([chosen, accepted])
    return chosen, state


def _draw(weights: Float64[np.ndarray, " M"], size: int, generator: np.random.Generator) -> Int64[np.ndarray, " size"]:
    """Draw rows with replacement, with probability proportional to ``weights``."""
    ends = weights.cumsum()
    drawn: Int64[np.ndarray, " size"] = np.minimum(
        np.searchsorted(ends, generator.random(size) * ends[-1], side="right"), np.flatnonzero(weights)[-1]
    )
    return drawn


def _accept(
    cloud: Cloud,
    candidates: Int64[np.ndarray, " n"],
    squared: Float64[np.ndarray, " M"],
    generator: np.random.Generator,
) -> Int64[np.ndarray, " a"]:
    """Return the candidates that become centers, in turn; the first one always does."""
    rows = cloud.take(candidates)
    between = torch.cdist(rows, rows).double().square_().cpu().numpy().clip(min=TINY)
    between[candidates[:, None] == candidates] = 0
    now = squared[candidates]
    bars = now * generator.random(len(candidates))
    accepted = []
    for turn, candidate in enumerate(candidates):
        if bars[turn] < now[turn]:
            accepted.append(candidate)
            np.minimum(now, between[turn], out=now)
    return np.array(accepted, dtype=np.int64)


def _offer(
    cloud: Cloud,
    state: Two,
    rows: Int64[np.ndarray, " a"],
    number: int,
    engine: Engine,
    table: Float32[Tensor, "T M"] | None,
) -> Two:
    """Let rows become centers ``number``, ``number + 1``, ..."""
    found = search(cloud, cloud.take(rows), engine) if table is None else nearest_rows(table, rows)
    return state.merged(found._replace(center=found.center + number))
