"""Distances between whole classes, from the means of their unit vectors; never a table of all pairs of classes.

The mean squared distance between the unit vectors of classes p and q is ``2 - 2 mu_p . mu_q``, in [0, 4].
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK = 1 << 24
"""Entries of a table held at once."""


def class_means(
    directions: Float[Tensor, "n D"], labels: Int[Tensor, " n"], num_classes: int
) -> tuple[Float[Tensor, "C D"], Int[Tensor, " C"]]:
    """Return the mean of the rows of each class, 0 where it has none, and how many rows it has."""
    counts = torch.bincount(labels, minlength=num_classes)
    sums = directions.new_zeros(num_classes, directions.shape[1]).index_add_(0, labels, directions)
    return sums / counts.clamp(min=1)[:, None], counts


def spreads(means: Float[Tensor, "C D"], counts: Int[Tensor, " C"]) -> Float[Tensor, " C"]:
    """Return the mean squared distance between two different members of each class; 0 for fewer than two."""
    inside = 1 - means.square().sum(dim=1)
    return torch.where(counts > 1, 2 * counts * inside / (counts - 1).clamp(min=1), 0.0).clamp(min=0)


def nearest_classes(means: Float[Tensor, "C D"], count: int) -> Int[Tensor, "C k"]:
    """Return the ``min(count, C - 1)`` other classes nearest to each class, nearest first."""
    total = len(means)
    rows = max(1, BLOCK // total)
    found = []
    for start in range(0, total, rows):
        products = means[start : start + rows] @ means.T
        products[range(len(products)), range(start, start + len(products))] = -torch.inf
        found.append(products.topk(min(count, total - 1), dim=1).indices)
    return torch.cat(found)


def single_linkage(means: Float[Tensor, "C D"]) -> tuple[Int[Tensor, " C"], Float[Tensor, " C"]]:
    """Line the classes up so that cutting the line at its gaps >= d leaves the groups that chains of steps < d connect.

    That is Prim's minimum spanning tree in the order in which it grows: C steps, C numbers of memory.

    Returns:
        The classes in line, and the mean squared distance at which each joined those before it, infinity for the first.
    """
    total = len(means)
    reach = torch.full((total,), torch.inf, dtype=means.dtype, device=means.device)
    order = torch.empty(total, dtype=torch.int64, device=means.device)
    gaps = torch.empty_like(reach)
    left = torch.ones(total, dtype=torch.bool, device=means.device)
    for place in range(total):
        last = reach.masked_fill(~left, torch.inf).argmin() if place else reach.new_zeros((), dtype=torch.int64)
        order[place], gaps[place], left[last] = last, reach[last], False
        reach = torch.minimum(reach, 2 - 2 * (means @ means[last]))
    return order, gaps
