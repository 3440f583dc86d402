"""The objective slot: what each row of logits costs, ``(N, C) logits, (N,) labels -> (N,)``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dml_bench.losses.numerics import masked_logsumexp
from dml_bench.losses.slots import Slot
from dml_bench.registry import Finite, NonNegative, Probability

Objective = Callable[[Tensor, Tensor], Tensor]
OBJECTIVES: Slot[Objective] = Slot("objective")


@OBJECTIVES.part("softmax")
def softmax(logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Return the cross-entropy ``logsumexp_j z_j - z_y``, >= 0."""
    return -_own(logits.log_softmax(dim=1), labels)


@OBJECTIVES.part("nca")
def nca(logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Return ``logsumexp_{j != y} z_j - z_y``: softmax without the positive in the denominator; may be negative."""
    return masked_logsumexp(logits, _others(logits, labels)) - _own(logits, labels)


@OBJECTIVES.register("bootstrap")
@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """Trust the label only so far: ``beta ell(z, y) + (1 - beta) ell(z, argmax_j z_j)``, ell the cross-entropy.

    Args:
        beta: in [0, 1]; 1 is ``softmax``.

    Source: Zhong et al., Unequal-training for Deep Face Recognition with Long-tailed Noisy Data, CVPR 2019, Eq. 3; the
        argmax is constant in the gradient.
    """

    beta: Probability = 0.9

    def __call__(self, logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        """Return the mixed cross-entropy."""
        scores = logits.log_softmax(dim=1)
        aims = torch.stack([labels, scores.detach().argmax(dim=1)], dim=1)
        return scores.gather(1, aims) @ scores.new_tensor([-self.beta, self.beta - 1])


@OBJECTIVES.register("hinge")
@dataclass(frozen=True, kw_only=True)
class Hinge:
    """Ask that the own class beats each other one: ``sum_{j != y} max(0, margin + z_j - z_y)``.

    Args:
        margin: by how much.
        hardest_only: whether only the largest of these hinges counts.

    Source: Wang et al., NormFace, ACM MM 2017, Eq. 12 (C-triplet); Hayat et al., ICCV 2019, Eq. 4.
    """

    margin: Finite = 0.8
    hardest_only: bool = False

    def __call__(self, logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        """Return the sum or the maximum of the hinges; 0 where there is no other class."""
        hinges = (self.margin + logits - _own(logits, labels)[:, None]).relu()
        hinges = hinges.masked_fill(~_others(logits, labels), 0.0)
        return hinges.max(dim=1).values if self.hardest_only else hinges.sum(dim=1)


@OBJECTIVES.register("pair_hinge")
@dataclass(frozen=True, kw_only=True)
class PairHinge:
    """Pull the own class and push the others below ``-margin``: ``-z_y + sum_{j != y} max(0, margin + z_j)``.

    Args:
        margin: on minus the logits, which are distances here.

    Source: Wang et al., NormFace, ACM MM 2017, Eq. 11 (C-contrastive).
    """

    margin: NonNegative = 1.0

    def __call__(self, logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        """Return pull plus pushes."""
        pushes = (self.margin + logits).relu().masked_fill(~_others(logits, labels), 0.0)
        return pushes.sum(dim=1) - _own(logits, labels)


@OBJECTIVES.register("sigmoid")
@dataclass(frozen=True, kw_only=True)
class Sigmoid:
    """Decide on each class by itself: ``sum_j -(1 - q_j)^gamma log q_j``, q_y = sigmoid(z_y), else sigmoid(-z_j).

    Args:
        gamma: >= 0; 0 is the binary cross-entropy, more is the focal loss of the sigmoid.

    Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, Eq. 4.
    """

    gamma: NonNegative = 0.0

    def __call__(self, logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        """Return the sum over all classes."""
        signed = torch.where(_others(logits, labels), -logits, logits)
        costs = -F.logsigmoid(signed)
        return (costs * F.logsigmoid(-signed).mul(self.gamma).exp() if self.gamma else costs).sum(dim=1)


@OBJECTIVES.part("none")
def nothing(logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Cost nothing, so that only the regularizers are left."""
    return 0 * _own(logits, labels)


def _own(logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    return logits.gather(1, labels[:, None]).squeeze(1)


def _others(logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> Tensor:
    return torch.ones_like(logits, dtype=torch.bool).scatter_(1, labels[:, None], False)
