"""The regularizer slot: what centers cost by themselves, ``(C, K, D) centers, (C,) margins or None -> scalar``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dml_bench.losses.numerics import safe_sqrt, unit
from dml_bench.losses.slots import Slot
from dml_bench.registry import NonNegative

Regularizer = Callable[[Tensor, Tensor | None], Tensor]
REGULARIZERS: Slot[Regularizer] = Slot("regularizer")
BLOCK = 1 << 22
"""Distances between centers that exist at a time."""


def merge_centers(centers: Float[Tensor, "C K D"]) -> Float[Tensor, ""]:
    """Pull the centers of each class together, so that it keeps only as many as it has modes.

    ``sum_c sum_{t<u} sqrt(2 + 1e-5 - 2 cos(c_t, c_u)) / (C K (K-1))``: half the mean distance of a pair, about 0 to 1.
    With one center per class there are no pairs and it is 0.

    Source: Qian et al., SoftTriple Loss, ICCV 2019, section 3, with the 1e-5 of the authors' code, which bounds the
        derivative by any one cosine by 316.
    """
    num_classes, per_class, _ = centers.shape
    products = _products(centers)
    if not math.isfinite(
        products.detach().diagonal(dim1=1, dim2=2).sum()
    ):  # the squares of float32 numbers overflow from 2e19 on
        products = _products(unit(centers))
    lengths = safe_sqrt(products.diagonal(dim1=1, dim2=2)).clamp(min=1e-12)
    cosines = products / (lengths[:, :, None] * lengths[:, None, :])
    distances = ((2 - 2 * cosines).clamp(min=0) + 1e-5).sqrt()
    return distances.triu(diagonal=1).sum() / (num_classes * max(per_class * (per_class - 1), 1))


def uniform(centers: Float[Tensor, "C K D"], normalize: bool) -> Float[Tensor, ""]:
    """Spread classes out: ``sum_{i != j} 1 / (||c_i - c_j|| + 1)``, divided by the number of ordered pairs.

    With several centers per class all of them are spread. Coincident centers do not push each other.
    """
    points = centers.flatten(0, 1)
    points = unit(points) if normalize else points
    if len(points) < 2:
        return 0 * centers.sum()
    rows = max(1, BLOCK // len(points))
    total = points.new_zeros(())
    for start in range(0, len(points), rows):
        # Backward computes each block anew, so that (C K) x (C K) distances never exist at once.
        total = total + checkpoint(_closeness, points, start, rows, use_reentrant=False, preserve_rng_state=False)
    return total / (len(points) * (len(points) - 1))


def equidistant(centers: Float[Tensor, "C K D"]) -> Float[Tensor, ""]:
    """Return the variance of the squared distances over all unordered pairs of centers, whatever their class.

    With M points p around their mean, a_p = ||p||^2 and G = ||sum_p p p^T||^2, distances squared add up over ordered
    pairs to ``2 M sum a_p`` and their squares to ``2 M sum a_p^2 + 2 (sum a_p)^2 + 4 G``: M x M distances never exist.

    Source: Hayat et al., Gaussian Affinity for Max-margin Class Imbalanced Learning, ICCV 2019, Eq. 6.
    """
    points = centers.flatten(0, 1).double()  # what follows is a difference of large numbers
    count = len(points)
    if count < 2:
        return 0 * centers.sum()
    points = points - points.mean(dim=0)
    lengths = points.square().sum(dim=1)
    spread = torch.einsum("pd,pe->de", points, points).square().sum()
    squares = 2 * count * lengths.square().sum() + 2 * lengths.sum() ** 2 + 4 * spread
    variance = squares / (count * (count - 1)) - (2 * lengths.sum() / (count - 1)) ** 2
    return variance.to(centers.dtype)


def _products(centers: Float[Tensor, "C K D"]) -> Float[Tensor, "C K K"]:
    """Multiply the centers of each class with each other: a block per class, never (C K) x (C K)."""
    return torch.einsum("ckd,cld->ckl", centers, centers)


def _closeness(points: Float[Tensor, "M D"], start: int, rows: int) -> Float[Tensor, ""]:
    """Sum ``1 / (distance + 1)`` from some of the points to all others."""
    block = points[start : start + rows]
    squares = (
        block.square().sum(dim=1)[:, None] + points.square().sum(dim=1) - 2 * torch.einsum("rd,md->rm", block, points)
    )
    itself = torch.eye(len(block), len(points), dtype=torch.bool, device=points.device).roll(start, dims=1)
    return (1 / (safe_sqrt(squares) + 1)).masked_fill(itself, 0.0).sum()


@REGULARIZERS.register("merge_centers")
@dataclass(frozen=True, kw_only=True)
class MergeCenters:
    """Pull the centers of each class together, so that it keeps only as many as it has modes.

    Args:
        weight: >= 0, of half the mean distance of a pair.
    """

    weight: NonNegative = 0.2

    def __call__(self, centers: Float[Tensor, "C K D"], margins: Float[Tensor, " C"] | None) -> Float[Tensor, ""]:
        """Return the weighted term; see ``merge_centers``."""
        return self.weight * merge_centers(centers)


@REGULARIZERS.register("uniform")
@dataclass(frozen=True, kw_only=True)
class Uniform:
    """Spread centers evenly: the mean of ``1 / (distance + 1)`` over pairs.

    Args:
        weight: >= 0.
        normalize: whether centers are brought to unit length first.

    Source: Duan et al., UniformFace, CVPR 2019, Eq. 6.
    """

    weight: NonNegative = 1.0
    normalize: bool = True

    def __call__(self, centers: Float[Tensor, "C K D"], margins: Float[Tensor, " C"] | None) -> Float[Tensor, ""]:
        """Return the weighted term; see ``uniform``."""
        return self.weight * uniform(centers, self.normalize)


@REGULARIZERS.register("equidistant")
@dataclass(frozen=True, kw_only=True)
class Equidistant:
    """Bring all centers to the same distance from each other: the variance of their squared distances.

    Args:
        weight: >= 0.

    Source: Hayat et al., Gaussian Affinity for Max-margin Class Imbalanced Learning, ICCV 2019, Eq. 6.
    """

    weight: NonNegative = 1.0

    def __call__(self, centers: Float[Tensor, "C K D"], margins: Float[Tensor, " C"] | None) -> Float[Tensor, ""]:
        """Return the weighted term; see ``equidistant``."""
        return self.weight * equidistant(centers)


@REGULARIZERS.register("mean_margin")
@dataclass(frozen=True, kw_only=True)
class MeanMargin:
    """Reward large margins, where the loss learns them: ``-weight mean_c m_c``.

    Args:
        weight: >= 0.

    Source: Liu et al., AdaptiveFace, CVPR 2019, Eq. 5.
    """

    weight: NonNegative = 20.0

    def __call__(self, centers: Float[Tensor, "C K D"], margins: Float[Tensor, " C"] | None) -> Float[Tensor, ""]:
        """Return the weighted term."""
        assert margins is not None
        return -self.weight * margins.mean()
