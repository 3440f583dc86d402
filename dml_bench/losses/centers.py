"""The centers slot: how a class's K similarities become one, ``(N, C, K) -> (N, C)``, and where centers start."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Pooling = Callable[[Tensor], Tensor]
Init = Callable[[int, int, int], Tensor]


def single(similarities: Float[Tensor, "N C 1"]) -> Float[Tensor, "N C"]:
    """Return the similarity to the only center of each class."""
    return similarities.squeeze(2)


def nearest(similarities: Float[Tensor, "N C K"]) -> Float[Tensor, "N C"]:
    """Return the similarity to the most similar center; at a tie only one of them gets the gradient."""
    return similarities.max(dim=2).values


@dataclass(frozen=True)
class Soft:
    """Average the similarities s_k with weights ``softmax_k(s_k / gamma)``.

    A center whose similarity is more than gamma below the average is pushed away: its derivative is negative.

    Args:
        gamma: temperature > 0; 0 would be ``nearest``, infinity the plain mean.

    Source: Qian et al., SoftTriple Loss, ICCV 2019, section 3.
    """

    gamma: float

    def __call__(self, similarities: Float[Tensor, "N C K"]) -> Float[Tensor, "N C"]:
        """Average over the centers of each class."""
        weights = (similarities / self.gamma).softmax(dim=2)
        return torch.einsum("nck,nck->nc", weights, similarities)


@dataclass(frozen=True)
class LogSumExp:
    """Take ``gamma logsumexp_k(s_k / gamma)``: ``Soft`` plus gamma times the entropy of its weights.

    Args:
        gamma: temperature > 0.

    Source: Qian et al., SoftTriple Loss, ICCV 2019, section 3: the entropy-regularised maximum in closed form.
    """

    gamma: float

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
