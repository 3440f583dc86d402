"""The ensemble slot: what keeps members whose costs are summed apart, ``(M, C, K, D) -> scalar``."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dml_bench.losses.slots import Slot
from dml_bench.registry import NonNegative

Ensemble = Callable[[Tensor], Tensor]
ENSEMBLES: Slot[Ensemble] = Slot("ensemble")


@ENSEMBLES.part("sum")
def independent(centers: Float[Tensor, "M C K D"]) -> Float[Tensor, ""]:
    """Leave the members to themselves: 0."""
    return centers.new_zeros(())


@ENSEMBLES.register("hsic")
@dataclass(frozen=True, kw_only=True)
class Hsic:
    """Make members dissimilar: ``weight`` times the Hilbert-Schmidt independence criterion of each pair of members.

    ``HSIC = tr(K_v H K_u H) / (C - 1)^2``, ``K_v = W_v W_v^T``, H the centering matrix, C the rows (with K centers per
    class C K). It sees how alike classes are to a member, not the coordinates: turning a member changes nothing.

    Args:
        weight: >= 0.

    Source: Wang et al., Ensemble Soft-Margin Softmax Loss for Image Classification, IJCAI 2018.
    """

    weight: NonNegative = 0.1

    def __call__(self, centers: Float[Tensor, "M C K D"]) -> Float[Tensor, ""]:
        """Return the weighted sum over unordered pairs of members."""
        rows = centers.flatten(1, 2)
        centered = rows - rows.mean(dim=1, keepdim=True)
        total = centers.new_zeros(())
        for v, u in itertools.combinations(range(len(rows)), 2):
            total = total + torch.einsum("cd,ce->de", centered[v], centered[u]).square().sum()  # D x D, never C x C
        return self.weight * total / max(rows.shape[1] - 1, 1) ** 2
