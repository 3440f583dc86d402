"""The regularizer slot: what the centers cost by themselves, ``(C, K, D) -> scalar``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from dml_bench.losses.numerics import length

Regularizer = Callable[[Tensor], Tensor]


def merge_centers(centers: Float[Tensor, "C K D"]) -> Float[Tensor, ""]:
    """Pull the centers of each class together, so that it keeps only as many as it has modes.

    ``sum_c sum_{t<u} sqrt(2 + 1e-5 - 2 cos(c_t, c_u)) / (C K (K-1))``: half the mean distance of a pair, about 0 to 1.
    With one center per class there are no pairs and it is 0.

    Source: Qian et al., SoftTriple Loss, ICCV 2019, section 3, with the 1e-5 of the authors' code, which bounds the
        derivative by any one cosine by 316.
    """
    num_classes, per_class, _ = centers.shape
    first, second = torch.triu_indices(per_class, per_class, offset=1, device=centers.device)
    products = torch.einsum("ckd,cld->ckl", centers, centers)  # a block per class, never (C K) x (C K)
    lengths = length(centers)
    cosines = products[:, first, second] / (lengths[:, first] * lengths[:, second])
    distances = ((2 - 2 * cosines).clamp(min=0) + 1e-5).sqrt()
    return distances.sum() / (num_classes * max(per_class * (per_class - 1), 1))
