"""The negatives slot: change the similarities to the other classes, ``(N, C), (N,) target, (N,) labels -> (N, C)``.

It comes after the margin and sees the margined target; the column of the own class has to stay as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from dml_bench.losses.numerics import MASKED
from dml_bench.losses.slots import Slot
from dml_bench.registry import Count

Negatives = Callable[[Tensor, Tensor, Tensor], Tensor]
NEGATIVES: Slot[Negatives] = Slot("negatives")


@NEGATIVES.part("none")
def none(scores: Float[Tensor, "N C"], target: Float[Tensor, " N"], labels: Int[Tensor, " N"]) -> Float[Tensor, "N C"]:
    """Leave the other classes as they are."""
    return scores


@NEGATIVES.register("support_vector")
@dataclass(frozen=True, kw_only=True)
class SupportVector:
    """Raise the cosine c of each class that beats the margined target to ``t c + t - 1``.

    Args:
        t: >= 1; at 1 nothing changes.

    Source: Wang et al., Support Vector Guided Softmax Loss, 2018: after the scale s this multiplies ``exp(s c)`` by
        ``exp(s (t - 1) (c + 1))``. The successor's code calls t - 1 t.
    """

    t: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.2

    def __call__(
        self, scores: Float[Tensor, "N C"], target: Float[Tensor, " N"], labels: Int[Tensor, " N"]
    ) -> Float[Tensor, "N C"]:
        """Raise the hard ones; which those are is constant in the gradient."""
        hard = (scores.detach() > target.detach()[:, None]).scatter_(1, labels[:, None], False)
        return torch.where(hard, self.t * scores + (self.t - 1), scores)


@NEGATIVES.register("candidates")
@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Race against the classes of the batch and the ``count`` rivals that each of them remembers, not against all.

    Args:
        count: >= 1, rivals per class; the loss keeps them in a ``Rivals``.

    Source: Liu et al., AdaptiveFace, CVPR 2019 (hard prototype mining).
    """

    count: Count = 8

    def __call__(
        self, scores: Float[Tensor, "N C"], target: Float[Tensor, " N"], labels: Int[Tensor, " N"]
    ) -> Float[Tensor, "N C"]:
        """Take every class for a candidate: which ones are is the state of a loss."""
        return scores


def among(scores: Float[Tensor, "N C"], allowed: Bool[Tensor, " C"]) -> Float[Tensor, "N C"]:
    """Leave only the ``allowed`` classes in the race; the others vanish from the softmax and get no gradient."""
    return scores.masked_fill(~allowed, MASKED)
