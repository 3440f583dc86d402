"""The margin slot: make the target harder to reach, ``(N,) -> (N,)`` on each sample's similarity to its own class."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dml_bench.losses.numerics import safe_sqrt

Margin = Callable[[Tensor], Tensor]
Overflow = Literal["insightface", "continuous", "easy", "none"]


def none(target: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Leave the target as it is."""
    return target


@dataclass(frozen=True)
class Additive:
    """Subtract ``margin`` >= 0 from the similarity.

    Source: Wang et al., Additive Margin Softmax, 2018; Wang et al., CosFace, CVPR 2018, Eq. 4.
    """

    margin: float

    def __call__(self, target: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        """Return ``target - margin``."""
        return target - self.margin


@dataclass(frozen=True)
class Angular:
    """Replace the cosine of the angle theta by ``cos(theta + margin)``.

    Args:
        margin: radians in [0, pi].
        overflow: what to do once theta > pi - margin, where ``cos(theta + margin)`` rises again:
            ``insightface`` takes ``cos(theta) - margin sin(margin)``, which falls, but jumps at the border;
            ``continuous`` takes ``-2 - cos(theta + margin)``, which falls and does not jump;
            ``easy`` instead applies the margin only where cos(theta) > 0; ``none`` lets it rise.
        straight_through: whether backward takes the derivative by the cosine as 1 instead of
            ``sin(theta + margin) / sin(theta)``, as insightface's PyTorch code does; values are the same.

    Source: Deng et al., ArcFace, CVPR 2019, Eq. 3.
    """

    margin: float
    overflow: Overflow = "insightface"
    straight_through: bool = False

    def __call__(self, target: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        """Return the margined cosine of each target cosine."""
        shifted = self._shift(target)
        return target + (shifted - target).detach() if self.straight_through else shifted

    def _shift(self, cosine: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        sine = safe_sqrt((1 - cosine) * (1 + cosine))
        shifted = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        falls = cosine >= -math.cos(self.margin)  # theta <= pi - margin
        if self.overflow == "insightface":
            return torch.where(falls, shifted, cosine - self.margin * math.sin(self.margin))
        if self.overflow == "continuous":
            return torch.where(falls, shifted, -2 - shifted)
        if self.overflow == "easy":
            return torch.where(cosine > 0, shifted, cosine)
        return shifted
