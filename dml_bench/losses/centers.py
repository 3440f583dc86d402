"""The centers slot: how a class's K similarities become one, ``(N, C, K) -> (N, C)``, and where centers start."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dml_bench.losses.numerics import unit
from dml_bench.losses.slots import Slot
from dml_bench.registry import Positive

Pooling = Callable[[Tensor], Tensor]
POOLINGS: Slot[Pooling] = Slot("centers")
Init = Callable[[int, int, int], Tensor]


@POOLINGS.part("single")
def single(similarities: Float[Tensor, "N C 1"]) -> Float[Tensor, "N C"]:
    """Return the similarity to the only center of each class."""
    return similarities.squeeze(2)


@POOLINGS.part("nearest")
def nearest(similarities: Float[Tensor, "N C K"]) -> Float[Tensor, "N C"]:
    """Return the similarity to the most similar center; at a tie only one of them gets the gradient."""
    return similarities.max(dim=2).values


@POOLINGS.part("mean")
def mean(similarities: Float[Tensor, "N C K"]) -> Float[Tensor, "N C"]:
    """Return the mean of the similarities to the centers of each class."""
    return similarities.mean(dim=2)


@POOLINGS.register("soft")
@dataclass(frozen=True, kw_only=True)
class Soft:
    """Average the similarities s_k with weights ``softmax_k(s_k / gamma)``.

    A center whose similarity is more than gamma below the average is pushed away: its derivative is negative.

    Args:
        gamma: temperature > 0; 0 would be ``nearest``, infinity the plain mean.

    Source: Qian et al., SoftTriple Loss, ICCV 2019, section 3.
    """

    gamma: Positive = 0.1

    def __call__(self, similarities: Float[Tensor, "N C K"]) -> Float[Tensor, "N C"]:
        """Average over the centers of each class."""
        by_center = similarities.transpose(1, 2).contiguous()  # along classes, several times faster than along centers
        weights = (by_center / self.gamma).softmax(dim=1)
        return (weights * by_center).sum(dim=1)


@POOLINGS.register("logsumexp")
@dataclass(frozen=True, kw_only=True)
class LogSumExp:
    """Take ``gamma logsumexp_k(s_k / gamma)``: ``Soft`` plus gamma times the entropy of its weights.

    Args:
        gamma: temperature > 0.

    Source: Qian et al., SoftTriple Loss, ICCV 2019, section 3: the entropy-regularised maximum in closed form.
    """

    gamma: Positive = 0.1

    def __call__(self, similarities: Float[Tensor, "N C K"]) -> Float[Tensor, "N C"]:
        """Pool the centers of each class."""
        return self.gamma * (similarities / self.gamma).logsumexp(dim=2)


def gaussian(num_classes: int, per_class: int, dim: int) -> Float[Tensor, "C K D"]:
    """Draw centers in random directions, of length about 1: every entry from N(0, 1/D)."""
    return torch.randn(num_classes, per_class, dim) / math.sqrt(dim)


def uniform_over_centers(num_classes: int, per_class: int, dim: int) -> Float[Tensor, "C K D"]:
    """Draw every entry from U(-b, b), b = 1/sqrt(C K), as SoftTriple's authors do.

    The centers' length, about sqrt(D / (3 C K)), shrinks with their number, which raises their effective learning rate.
    """
    return torch.empty(num_classes, per_class, dim).uniform_(-1, 1) / math.sqrt(num_classes * per_class)


def on_sphere(num_classes: int, per_class: int, dim: int) -> Float[Tensor, "C K D"]:
    """Draw centers of length 1 in random directions, as NormFace's authors do."""
    return unit(torch.randn(num_classes, per_class, dim))


def uniform_over_dimensions(num_classes: int, per_class: int, dim: int) -> Float[Tensor, "C K D"]:
    """Draw every entry from U(-b, b), b = 1/sqrt(D), as torch does for a linear layer."""
    return torch.empty(num_classes, per_class, dim).uniform_(-1, 1) / math.sqrt(dim)


def gaussian_eighth(num_classes: int, per_class: int, dim: int) -> Float[Tensor, "C K D"]:
    """Draw every entry from N(0, 1/64), as the code behind ProxyNCA and ProxyNCA++ does; of length 1 at D = 64."""
    return torch.randn(num_classes, per_class, dim) / 8


def he_normal(num_classes: int, per_class: int, dim: int) -> Float[Tensor, "C K D"]:
    """Draw every entry from N(0, 2/D), so that centers have length about sqrt(2)."""
    return torch.randn(num_classes, per_class, dim) * math.sqrt(2 / dim)


def he_normal_over_classes(num_classes: int, per_class: int, dim: int) -> Float[Tensor, "C K D"]:
    """Draw every entry from N(0, 2/C), as Proxy-Anchor's authors do."""
    return torch.randn(num_classes, per_class, dim) * math.sqrt(2 / num_classes)
