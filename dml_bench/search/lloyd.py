"""Lloyd's iteration, exact; time goes to the centers that move alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from dml_bench.search.cloud import Cloud
from dml_bench.search.nearest import Engine, Two, search
from dml_bench.search.sums import grouped_sums

ITERATIONS = 100
"""Upper limit; most clusterings stop changing after 10 to 90."""


def lloyd(
    cloud: Cloud,
    start: Int64[np.ndarray, " C"],
    state: Two,
    engine: Engine,
    on_limit: Callable[[], None] = lambda: None,
) -> Int64[Tensor, " M"]:
    """Move centers to the means of their rows until nothing changes and return the nearest center of each row.

    A center that loses all its rows stays where it is.

    Args:
        cloud: the rows.
        start: which of them the centers are at first.
        state: the two nearest of those for each row.
        engine: who finds the nearest centers.
        on_limit: is called if rows still changed their cluster in the last iteration there may be.
    """
    centers = cloud.take(start)
    sums = torch.zeros(len(centers), cloud.points.dim + 1, dtype=torch.float64, device=centers.device)
    changed, owners = torch.arange(len(cloud), device=centers.device), state.center[None]
    for _ in range(ITERATIONS):
        _add(cloud, changed, owners, sums)
        moved = torch.unique(owners)
        moved = moved[sums[moved, -1] > 0]
        if not len(moved):
            break
        centers[moved] = (sums[moved, :-1] / sums[moved, -1:]).float()
        before, state = state.center, _reassign(cloud, state, centers, moved, engine)
        changed = (before != state.center).nonzero()[:, 0]
        owners = torch.stack([state.center[changed], before[changed]])
    else:
        if len(changed):
            on_limit()
    return state.center


def _add(
    cloud: Cloud, changed: Int64[Tensor, " n"], owners: Int64[Tensor, "s n"], sums: Float64[Tensor, "C E"]
) -> None:
    """Add rows to the clusters ``owners[0]`` and take them from ``owners[1]``; the last column of ``sums`` counts."""
    which, copies, signs = changed.cpu().numpy(), cloud.copies.cpu().numpy(), np.array([[1], [-1]])[: len(owners)]
    for where, rows in cloud.blocks(which=which):
        moved, group = np.unique(owners[:, where].cpu().numpy(), return_inverse=True)
        weights = (signs * copies[which[where]]).ravel()
        counted = torch.nn.functional.pad(rows, (0, 1), value=1)
        among = np.tile(np.arange(len(rows)), len(signs))
        added = grouped_sums(counted, among, group.ravel(), weights, len(moved))
        sums[torch.from_numpy(moved).to(sums.device)] += added


def _reassign(
    cloud: Cloud, state: Two, centers: Float32[Tensor, "C D"], moved: Int64[Tensor, " m"], engine: Engine
) -> Two:
    """Return the nearest center of each row after some moved, and the bound of the distance to the others."""
    gone = torch.zeros(len(centers), dtype=torch.bool, device=centers.device)
    gone[moved] = True
    found = search(cloud, centers[moved], engine)
    found = found._replace(center=moved[found.center])
    state = state._replace(first=state.first.masked_fill(gone[state.center], torch.inf))
    state = found if len(moved) == len(centers) else state.merged(found)
    open_rows = (state.first > state.second).nonzero()[:, 0]
    if len(open_rows):
        exact = search(cloud, centers, engine, open_rows.cpu().numpy())
        for whole, part in zip(state, exact, strict=True):
            whole[open_rows] = part
    return state
