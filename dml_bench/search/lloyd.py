"""Lloyd's iteration, exact; time goes to the centers that move alone."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from dml_bench.search.cloud import ROWS, Cloud
from dml_bench.search.nearest import Engine, Two, search

ITERATIONS = 100
"""Upper limit; most clusterings stop changing after 10 to 50."""


def lloyd(cloud: Cloud, start: Int64[np.ndarray, " C"], state: Two, engine: Engine) -> Int64[np.ndarray, " M"]:
    """Move centers to the means of their rows until nothing changes and return the nearest center of each row.

    A center that loses all its rows stays where it is.

    Args:
        cloud: the rows.
        start: which of them the centers are at first.
        state: the two nearest of those for each row.
        engine: who finds the nearest centers.
    """
    centers = cloud.take(start)
    if engine == "auto" and _few(cloud, len(start)) and (gram := cloud.gram) is not None:
        return _by_gram(cloud, centers, state.center, gram)
    return _by_centers(cloud, centers, state, engine)


def _few(cloud: Cloud, clusters: int) -> bool:
    """Return whether products of all rows with each other are cheaper than those with all centers time and again."""
    return cloud.mean.device.type == "cpu" and len(cloud) <= 100 * clusters and cloud.points.dim >= 128


def _by_gram(
    cloud: Cloud, centers: Float32[Tensor, "C D"], index: Int64[Tensor, " M"], gram: Float32[Tensor, "M M"]
) -> Int64[np.ndarray, " M"]:
    """Follow the products of rows with the sum of each cluster, to which each row that changes adds its own products.

    Distances are |c|^2 - 2 x.c, where x.c is such a product divided by the size of the cluster.
    """
    rows, copies = torch.arange(len(cloud)), cloud.copies.float()
    products = torch.zeros(len(centers), len(cloud))
    distances = centers.square().sum(dim=1, keepdim=True) - 2 * centers @ cloud.take(slice(None)).T
    changed, owners = rows, index[None]
    for _ in range(ITERATIONS):
        for where in torch.split(rows[: len(changed)], ROWS):
            part = gram[changed[where]].mul_(copies[changed[where], None])
            for sign, owner in zip((1, -1), owners[:, where], strict=False):
                products.index_add_(0, owner, part, alpha=sign)
        counts = torch.bincount(index, cloud.copies, minlength=len(centers))
        moved = torch.unique(owners)
        moved = moved[counts[moved] > 0]
        if not len(moved):
            break
        squared = torch.bincount(index, products[index, rows] * cloud.copies, minlength=len(centers))
        norms, shares = squared[moved] / counts[moved].square(), 1 / counts[moved]
        distances[moved] = torch.addcmul(norms[:, None].float(), products[moved], shares[:, None].float(), value=-2)
        before, index = index, distances.min(dim=0).indices
        changed = (before != index).nonzero()[:, 0]
        owners = torch.stack([index[changed], before[changed]])
    found: Int64[np.ndarray, " M"] = index.numpy()
    return found


def _by_centers(cloud: Cloud, centers: Float32[Tensor, "C D"], state: Two, engine: Engine) -> Int64[np.ndarray, " M"]:
    """Compare rows with the centers that moved.

    ``state.second`` is kept a lower bound of the distance to all centers but the row's own. Only a center that gained
    or lost rows moves. All rows are compared with those; what is then nearer than the bound is nearest of all, since
    centers at rest are beyond it. The rest, few, are compared with all centers.
    """
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
    found: Int64[np.ndarray, " M"] = state.center.cpu().numpy()
    return found


def _add(
    cloud: Cloud, changed: Int64[Tensor, " n"], owners: Int64[Tensor, "s n"], sums: Float64[Tensor, "C E"]
) -> None:
    """Add rows to the clusters ``owners[0]`` and take them from ``owners[1]``; the last column of ``sums`` counts."""
    for where, rows in cloud.blocks(which=changed.cpu().numpy()):
        copies = cloud.copies[changed[where]]
        weighted = torch.nn.functional.pad(rows, (0, 1), value=1).double() * copies[:, None]
        for sign, owner in zip((1, -1), owners[:, where], strict=False):
            sums.index_add_(0, owner, weighted, alpha=sign)


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
