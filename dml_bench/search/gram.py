"""Lloyd's iteration by the products of all rows with each other, for few wide rows; time goes to rows that change."""

from __future__ import annotations

import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag

from dml_bench.search.cloud import Cloud
from dml_bench.search.nearest import Two, two_smallest

TILE = 256
"""Rows whose products are taken at once."""
WIDE = 128
"""From how many dimensions on a product of all rows with a center costs more than a few sums of as many numbers."""
SHARE = 100
"""Up to how many rows per cluster their products with each other are soon cheaper than those with moving centers."""


def worthwhile(cloud: Cloud, clusters: int) -> bool:
    """Return whether the products fit the memory and cost less than those with all centers time and again."""
    fits = cloud.held is not None and 4 * len(cloud) ** 2 <= cloud.memory
    return fits and cloud.mean.device.type == "cpu" and cloud.points.dim >= WIDE and len(cloud) <= SHARE * clusters


def products(rows: Float32[Tensor, "M D"]) -> Float32[Tensor, "M M"]:
    """Return ``rows @ rows.T``; one half is computed, the other copied."""
    result = rows.new_empty(len(rows), len(rows))
    for start in range(0, len(rows), TILE):
        end = min(start + TILE, len(rows))
        torch.mm(rows[start:end], rows[start:].T, out=result[start:end, start:])
        result[end:, start:end] = result[start:end, end:].T
    return result


def nearest_rows(gram: Float32[Tensor, "M M"], which: Int64[Tensor, " a"]) -> Two:
    """Return the two nearest of some rows for each row."""
    norms = gram.diagonal()[which]
    return two_smallest(torch.add(norms[:, None], gram[which], alpha=-2).T, 1)


def lloyd_by_gram(
    gram: Float32[Tensor, "M M"],
    copies: Float64[Tensor, " M"],
    start: Int64[Tensor, " C"],
    index: Int64[Tensor, " M"],
    iterations: int,
) -> Int64[Tensor, " M"]:
    """Do what ``lloyd`` does, with distances |c|^2 - 2 x.c where x.c is a mean of products.

    Each iteration adds the products of the rows that changed to the sum of the cluster that each is in now, and takes
    them from the one before. All distances are at hand, so only a row that is not with its nearest center looks
    for that.

    Args:
        gram: the products of all rows.
        copies: how often each row counts.
        start: which rows the centers are at first.
        index: the nearest of those for each row.
        iterations: upper limit.
    """
    sums = gram.new_zeros(len(start), len(gram))
    distances = torch.add(gram.diagonal()[start, None], gram[start], alpha=-2)
    changed, owners = torch.arange(len(gram), device=gram.device), index[None]
    for _ in range(iterations):
        moved, change = _changes(gram, copies, changed, owners)
        sums[moved] = change.add_(sums[moved])
        counts = torch.bincount(index, copies, minlength=len(start))
        squared = torch.bincount(index, sums.gather(0, index[None])[0] * copies, minlength=len(start))
        kept = counts[moved] > 0
        moved, change = moved[kept], change[kept]
        norms, shares = squared[moved] / counts[moved].square(), 1 / counts[moved]
        distances[moved] = torch.addcmul(norms[:, None].float(), change, shares[:, None].float(), value=-2)
        changed = (distances.amin(dim=0) < distances.gather(0, index[None])[0]).nonzero()[:, 0]
        if not len(changed):
            break
        before, index = index, index.clone()
        index[changed] = distances[:, changed].min(dim=0).indices
        owners = torch.stack([index[changed], before[changed]])
    return index


def _changes(
    gram: Float32[Tensor, "M M"],
    copies: Float64[Tensor, " M"],
    changed: Int64[Tensor, " n"],
    owners: Int64[Tensor, "s n"],
) -> tuple[Int64[Tensor, " m"], Float32[Tensor, "m M"]]:
    """Return which clusters gained the rows ``owners[0]`` or lost those in ``owners[1]``, and what it adds to sums."""
    order = owners.flatten().argsort(stable=True)
    moved, sizes = owners.flatten()[order].unique_consecutive(return_counts=True)
    signed = torch.stack([copies[changed], -copies[changed]])[: len(owners)].flatten().float()
    rows = changed.repeat(len(owners))[order]
    added = embedding_bag(rows, gram, sizes.cumsum(0) - sizes, mode="sum", per_sample_weights=signed[order])
    return moved, added
