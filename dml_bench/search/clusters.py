"""Exact k-means on all points from a k-means++ start, seeded; time goes to the centers that move alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from dml_bench.search.cloud import ROWS, Cloud, gather
from dml_bench.search.nearest import TILE, Engine, Two, nearest, nobody
from dml_bench.search.points import Points

ITERATIONS = 100
"""Upper limit; most clusterings stop changing after 10 to 40."""
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
) -> Iterator[Int64[np.ndarray, " N"]]:
    """Yield what ``kmeans`` returns for each seed; the points are prepared once for all."""
    if clusters < 1:
        raise ValueError(f"clusters must be at least 1, not {clusters}")
    cloud = gather(points if isinstance(points, Points) else Points(points, unit=False), memory)
    for seed in seeds:
        if len(cloud) <= clusters:
            yield cloud.place.copy()
        else:
            start, state = plus_plus(cloud, clusters, np.random.default_rng(seed), engine)
            yield _lloyd(cloud, start, state, engine)[cloud.place]


def plus_plus(
    cloud: Cloud, clusters: int, generator: np.random.Generator, engine: Engine = "auto"
) -> tuple[Int64[np.ndarray, " C"], Two]:
    """Draw centers among the rows, each with probability proportional to the squared distance to those before.

    Many candidates are drawn at once by the distances to the centers so far. Taken in turn, one is accepted with
    probability (distance now) / (distance when drawn), which leaves the distribution as it is (rejection sampling).

    Args:
        cloud: more distinct rows than ``clusters``.
        clusters: how many centers, C.
        generator: of the draws.
        engine: who finds the nearest centers.

    Returns:
        Which rows the centers are, and the two nearest centers of each row.
    """
    chosen = _draw(cloud.copies, 1, generator)
    state = _offer(cloud, nobody(len(cloud), cloud.mean.device), chosen, 0, engine)
    while len(chosen) < clusters:
        squared = (state.first + cloud.norms).double().cpu().numpy().clip(min=TINY)
        squared[chosen] = 0
        size = int(np.clip(len(chosen), *CANDIDATES))
        candidates = _draw(cloud.copies * squared, size, generator)
        accepted = _accept(cloud, candidates, squared, generator)[: clusters - len(chosen)]
        state = _offer(cloud, state, accepted, len(chosen), engine)
        chosen = np.concatenate([chosen, accepted])
    return chosen, state


def _draw(weights: Float64[np.ndarray, " M"], size: int, generator: np.random.Generator) -> Int64[np.ndarray, " size"]:
    """Draw rows with replacement, with probability proportional to ``weights``."""
    ends = weights.cumsum()
    return np.minimum(
        np.searchsorted(ends, generator.random(size) * ends[-1], side="right"), np.flatnonzero(weights)[-1]
    )


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


def _offer(cloud: Cloud, state: Two, rows: Int64[np.ndarray, " a"], number: int, engine: Engine) -> Two:
    """Let rows become centers ``number``, ``number + 1``, ..."""
    found = _search(cloud, cloud.take(rows), engine)
    return state.merged(found._replace(index=found.index + number))


def _search(
    cloud: Cloud, centers: Float32[Tensor, "C D"], engine: Engine, which: Int64[np.ndarray, " n"] | None = None
) -> Two:
    """Search for all rows, or for some."""
    search = nearest(centers, engine)
    result = nobody(len(cloud) if which is None else len(which), cloud.mean.device)
    for where, rows in cloud.blocks(max(ROWS, TILE**2 // len(centers)), which):
        for whole, part in zip(result, search(rows), strict=True):
            whole[where] = part
    return result


def _lloyd(cloud: Cloud, start: Int64[np.ndarray, " C"], state: Two, engine: Engine) -> Int64[np.ndarray, " M"]:
    """Move centers to the means of their rows until nothing changes and return the nearest center of each row.

    ``state.second`` is kept a lower bound of the distance to all centers but the row's own. Only a center that gained
    or lost rows moves. All rows are compared with those; what is then nearer than the bound is nearest of all, since
    centers at rest are beyond it. The rest, few, are compared with all centers.
    """
    centers = cloud.take(start)
    sums = torch.zeros(centers.shape, dtype=torch.float64, device=centers.device)
    counts = torch.zeros(len(centers), dtype=torch.float64, device=centers.device)
    changed = np.arange(len(cloud))
    before = None
    for _ in range(ITERATIONS):
        _count(cloud, changed, state.index, before, sums, counts)
        touched = state.index[changed] if before is None else torch.cat([state.index[changed], before[changed]])
        moved = touched.unique()
        moved = moved[counts[moved] > 0]
        if not len(moved):
            break
        centers[moved] = (sums[moved] / counts[moved, None]).float()
        before, state = state.index, _reassign(cloud, state, centers, moved, engine)
        changed = (before != state.index).nonzero()[:, 0].cpu().numpy()
    return state.index.cpu().numpy()


def _count(
    cloud: Cloud,
    changed: Int64[np.ndarray, " n"],
    after: Int64[Tensor, " M"],
    before: Int64[Tensor, " M"] | None,
    sums: Float64[Tensor, "C D"],
    counts: Float64[Tensor, " C"],
) -> None:
    """Move the rows that changed from the cluster they were in, if any, to the one they are in now."""
    for where, rows in cloud.blocks(which=changed):
        some = torch.from_numpy(changed[where]).to(after.device)
        copies = torch.from_numpy(cloud.copies[changed[where]]).to(counts.device)
        weighted = rows.double() * copies[:, None]
        for sign, owner in ((1, after), (-1, before)):
            if owner is not None:
                sums.index_add_(0, owner[some], weighted, alpha=sign)
                counts.index_add_(0, owner[some], copies, alpha=sign)


def _reassign(
    cloud: Cloud, state: Two, centers: Float32[Tensor, "C D"], moved: Int64[Tensor, " m"], engine: Engine
) -> Two:
    """Return the nearest center of each row after some moved, and the bound of the distance to the others."""
    gone = torch.zeros(len(centers), dtype=torch.bool, device=centers.device)
    gone[moved] = True
    found = _search(cloud, centers[moved], engine)
    found = found._replace(index=moved[found.index])
    state = state._replace(first=state.first.masked_fill(gone[state.index], torch.inf))
    state = found if len(moved) == len(centers) else state.merged(found)
    open_rows = (state.first > state.second).nonzero()[:, 0]
    if len(open_rows):
        exact = _search(cloud, centers, engine, open_rows.cpu().numpy())
        for whole, part in zip(state, exact, strict=True):
            whole[open_rows] = part
    return state
