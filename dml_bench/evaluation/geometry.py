"""Shape of a cloud of points, from one or two passes over blocks of them, in float64."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from dml_bench.errors import DataError
from dml_bench.evaluation.centers import class_sums
from dml_bench.search.points import Points

ENTRIES = 2**22
"""Float64 numbers read at once."""
TILE = (512, 2048)
"""Entries of a table computed at once, which stay in the cache."""
NEAR = 1e-6
"""Share of the squared lengths below which a squared distance is computed from the difference, not the product."""

Labels = Int64[np.ndarray, " N"]


def intra_inter_ratio(points: Points, labels: Labels) -> float:
    """Return the mean distance of two items of a class over the mean distance of two class centers."""
    codes, counts = _classes(labels)
    if len(counts) < 2:
        raise DataError("all items are of the same class, so there are no two class centers to compare")
    pairs = _same_pairs(counts)
    means = class_sums(points, codes, len(counts), _step(points)) / torch.from_numpy(counts)[:, None].to(points.device)
    intra = sum(float(found.sum()) for found in _distances_within(points, codes, counts)) / pairs
    total = len(counts) * (len(counts) - 1) / 2
    inter = sum(float(found.sum()) for found in _distances_among(means)) / total
    if not inter:
        raise DataError("the centers of all classes are the same point, so the ratio of distances does not exist")
    return intra / inter


def alignment(points: Points, labels: Labels) -> float:
    """Return the mean squared distance of two items of a class."""
    codes, counts = _classes(labels)
    pairs = _same_pairs(counts)
    sizes = torch.from_numpy(counts).to(points.device)
    means = class_sums(points, codes, len(counts), _step(points)) / sizes[:, None]
    total = 0.0
    for rows, block in points.blocks(_step(points), torch.float64):
        code = torch.from_numpy(codes[rows]).to(points.device)
        total += float(((block - means[code]).square().sum(dim=1) * sizes[code]).sum())
    return total / pairs


def uniformity(points: Points) -> float:
    """Return the logarithm of the mean of exp(-2 ||x - y||^2) over all pairs of different items."""
    total = len(points)
    if total < 2:
        raise DataError(f"uniformity compares two items; there are {total}")
    middle = sum(block.sum(dim=0) for _, block in points.blocks(_step(points), torch.float64)) / total
    found = torch.tensor(-torch.inf, dtype=torch.float64, device=points.device)
    for top, upper in points.blocks(_step(points), torch.float64):
        upper = upper - middle
        for cols in _slices(top.start, total, TILE[1]):
            b = points.take(cols, torch.float64) - middle
            bias = -2 * b.square().sum(dim=1)
            for rows in _slices(top.start, min(top.stop, cols.stop), TILE[0]):
                a = upper[rows.start - top.start : rows.stop - top.start]
                table = torch.addmm(bias, a, b.T, alpha=4)
                if cols.start < rows.stop:
                    table.masked_fill_(~_after(rows, cols, points.device), -torch.inf)
                sums = table.logsumexp(dim=1) - 2 * a.square().sum(dim=1)
                found = torch.logaddexp(found, sums.logsumexp(dim=0))
    return float(found) - float(np.log(total * (total - 1) / 2))


def spectral_decay(points: Points) -> float:
    """Return KL(uniform || singular values of the points as rows of a matrix, divided by their sum)."""
    factor = torch.zeros(0, points.dim, dtype=torch.float64, device=points.device)
    for _, block in points.blocks(max(points.dim, _step(points)), torch.float64):
        factor = torch.linalg.qr(torch.cat([factor, block]), mode="r").R  # has the singular values of all rows so far
    values = torch.linalg.svdvals(factor)
    rank = int((values > max(len(points), points.dim) * torch.finfo(values.dtype).eps * values.max()).sum())
    if rank < points.dim:
        raise DataError(
            f"the {len(points)} embeddings span {rank} of {points.dim} dimensions, so their spectral decay is infinite"
        )
    return max(0.0, -float((values / values.mean()).log().mean()))


def _classes(labels: Labels) -> tuple[Labels, Int64[np.ndarray, " C"]]:
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return codes, counts


def _same_pairs(counts: Int64[np.ndarray, " C"]) -> int:
    pairs = int((counts * (counts - 1) // 2).sum())
    if not pairs:
        raise DataError(f"no class has two items ({counts.sum()} items in all), so there is no distance within a class")
    return pairs


def _step(points: Points) -> int:
    return max(1, ENTRIES // points.dim)


def _slices(start: int, stop: int, size: int) -> Iterator[slice]:
    return (slice(i, min(i + size, stop)) for i in range(start, stop, size))


def _after(rows: slice, cols: slice, device: torch.device) -> Tensor:
    """Say for each row and column whether the column stands after the row, so that each pair is met once."""
    first, second = (torch.arange(which.start, which.stop, device=device) for which in (rows, cols))
    return second > first[:, None]


def _distances_within(
    points: Points, codes: Labels, counts: Int64[np.ndarray, " C"]
) -> Iterator[Float64[Tensor, " P"]]:
    """Yield the distances of all pairs of items of a class, from rows in the order of classes."""
    order, ends = np.argsort(codes, kind="stable"), np.cumsum(counts)
    sorted_codes = torch.from_numpy(codes[order]).to(points.device)
    for rows in _slices(0, len(order), min(TILE[0], _step(points))):
        a = points.take(order[rows], torch.float64)
        for cols in _slices(rows.start, int(ends[codes[order[rows.stop - 1]]]), min(TILE[1], _step(points))):
            same = sorted_codes[rows, None] == sorted_codes[cols]
            found = _distances(a, points.take(order[cols], torch.float64))
            yield found[same & _after(rows, cols, points.device)]


def _distances_among(rows: Float64[Tensor, "C D"]) -> Iterator[Float64[Tensor, " P"]]:
    """Yield the distances of all pairs of rows."""
    for upper in _slices(0, len(rows), TILE[0]):
        for cols in _slices(upper.start, len(rows), TILE[1]):
            yield _distances(rows[upper], rows[cols])[_after(upper, cols, rows.device)]


def _distances(a: Float64[Tensor, "n D"], b: Float64[Tensor, "m D"]) -> Float64[Tensor, "n m"]:
    """Return Euclidean distances from products, and from differences where products cancel."""
    middle = a.mean(dim=0)
    a, b = a - middle, b - middle
    lengths = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)
    squared = torch.addmm(lengths, a, b.T, alpha=-2)
    near = (squared <= NEAR * lengths).nonzero()
    for part in _slices(0, len(near), max(1, ENTRIES // a.shape[1])):
        i, j = near[part].T
        squared[i, j] = (a[i] - b[j]).square().sum(dim=1)
    return squared.sqrt()
