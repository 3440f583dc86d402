"""The similarity slot: how alike each embedding and each center are, ``(N, D), (C, K, D) -> (N, C, K)``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from dml_bench.losses.numerics import length, unit

Similarity = Callable[[Tensor, Tensor], Tensor]


def cosine(embeddings: Float[Tensor, "N D"], centers: Float[Tensor, "C K D"]) -> Float[Tensor, "N C K"]:
    """Return the cosine of the angle between each embedding and each center, in [-1, 1]."""
    # Dividing the product by the lengths saves several passes over the centers, most of all in backward.
    return torch.einsum("nd,ckd->nck", unit(embeddings), centers) / length(centers)


def negative_squared_distance(
    embeddings: Float[Tensor, "N D"], centers: Float[Tensor, "C K D"]
) -> Float[Tensor, "N C K"]:
    """Return minus the squared distance of the unit vectors, ``2 cos - 2``, in [-4, 0]."""
    return 2 * cosine(embeddings, centers) - 2
