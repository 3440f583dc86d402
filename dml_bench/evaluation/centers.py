"""The class whose center, the mean of its vectors, is nearest to each query."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from dml_bench.errors import DataError
from dml_bench.search.neighbors import rounding
from dml_bench.search.points import Points


class Nearest(NamedTuple):
    """Some queries, their classes, and the classes of the nearest centers."""

    queries: Int64[np.ndarray, " n"]
    labels: Int64[np.ndarray, " n"]
    predicted: Int64[np.ndarray, " n"]


def class_sums(points: Points, codes: Int64[np.ndarray, " N"], classes: int, step: int) -> Float64[Tensor, "C D"]:
    """Return the sum of the rows of each class, in float64; ``codes`` are 0, ..., ``classes`` - 1."""
    sums = torch.zeros(classes, points.dim, dtype=torch.float64, device=points.device)
    for rows, block in points.blocks(step, torch.float64):
        sums.index_add_(0, torch.from_numpy(codes[rows]).to(sums.device), block)
    return sums


def nearest_centers(
    queries: Points,
    query_labels: Int64[np.ndarray, " Q"],
    gallery: Points,
    gallery_labels: Int64[np.ndarray, " G"],
    own: Int64[np.ndarray, " Q"],
    *,
    memory: int = 2**30,
) -> Nearest:
    """Find for each query the class of the gallery whose center is nearest by Euclidean distance, in float64.

    A center is the mean of the vectors of a class, of length 1 each if the gallery is ``unit``; the mean is not brought
    to length 1 again. A query that is itself in the gallery is left out of its own class's mean. At equal distance,
    within rounding, another class comes before the query's own. Queries whose class has no center, since no other item
    of the gallery is of it, are left out.

    Args:
        queries: what to classify.
        query_labels: their classes, numbered as those of the gallery.
        gallery: what the centers are the means of, ``unit`` alike.
        gallery_labels: their classes.
        own: the row of each query itself in the gallery, -1 where it is not there.
        memory: bytes to work in, beside the centers, ``(C, D)`` in float64, two or three times.

    Raises:
        DataError: if no query has a center of its class.
    """
    classes, codes, counts = np.unique(gallery_labels, return_inverse=True, return_counts=True)
    place = np.searchsorted(classes, query_labels)
    known = np.isin(query_labels, classes)
    kept = np.flatnonzero(known)[counts[place[known]] > (own >= 0)[known]]
    if not len(kept):
        raise DataError(f"no class of the {len(queries)} queries has another item in the gallery to be its center")
    step = max(1, memory // (128 * gallery.dim))
    sums = class_sums(gallery, codes, len(classes), step)
    centers = _Centers(sums, torch.from_numpy(counts).to(sums.device), max(1, memory // 32))
    predicted = []
    for part in np.array_split(kept, -(-len(kept) // min(step, 4096))):
        home, inside = (torch.from_numpy(a[part]).to(sums.device) for a in (place, own >= 0))
        predicted.append(centers.nearest(queries.take(part, torch.float64), home, inside).cpu().numpy())
    return Nearest(kept, query_labels[kept], classes[np.concatenate(predicted)])


class _Centers:
    """Centers of classes, seen from the mean of all items, where products lose least."""

    def __init__(self, sums: Float64[Tensor, "C D"], counts: Int64[Tensor, " C"], entries: int) -> None:
        self.sums, self.counts, self.entries = sums, counts, entries
        self.middle = sums.sum(dim=0) / counts.sum()
        self.means = sums / counts[:, None] - self.middle
        self.norms = self.means.square().sum(dim=1)
        self.tie = rounding(sums.shape[1] + int(counts.max()))

    def nearest(self, x: Float64[Tensor, "n D"], home: Int64[Tensor, " n"], inside: Tensor) -> Int64[Tensor, " n"]:
        """Return the nearest class of each row, without the row itself where it is ``inside`` its class ``home``."""
        left = (self.counts[home] - inside.long())[:, None]
        own = (self.sums[home] - x * inside[:, None]) / left - self.middle
        x = x - self.middle
        if len(self.means) == 1:
            return home
        wrong = self._nearest_wrong(x, home)
        other = self.means[wrong]
        scale = sum(rows.square().sum(dim=1) for rows in (x, own, other))
        gain = (x - other).square().sum(dim=1) - (x - own).square().sum(dim=1)
        return torch.where(gain > self.tie * scale, home, wrong)

    def _nearest_wrong(self, x: Float64[Tensor, "n D"], home: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
        rows = torch.arange(len(x), device=x.device)
        least = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
        found = torch.zeros_like(home)
        step = max(1, self.entries // len(x))
        for start in range(0, len(self.means), step):
            stop = min(start + step, len(self.means))
            table = torch.addmm(self.norms[start:stop], x, self.means[start:stop].T, alpha=-2)  # but for |x|^2
            here = (start <= home) & (home < stop)
            table[rows[here], home[here] - start] = torch.inf
            values, places = table.min(dim=1)
            found = torch.where(values < least, places + start, found)
            least = torch.minimum(values, least)
        return found
