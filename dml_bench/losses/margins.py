"""The margin slot: make each sample's own class harder to reach, ``Target -> (N,)`` what its similarity changes by.

It returns the change, not the outcome: a constant one then has no derivative, which saves passes over all classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from dml_bench.losses.annealing import Annealing, Schedule
from dml_bench.losses.numerics import chebyshev, falling_cosine, safe_sqrt
from dml_bench.losses.slots import Slot
from dml_bench.registry import Finite, NonNegative, Positive, Probability, Radians

Overflow = Literal["insightface", "continuous", "easy", "none"]
Factor = Annotated[float, Field(ge=1, le=64)]
ANNEALED = Annealing()
NEAR = 1e-2
"""Squared sine, about 6 degrees, below which the sine is measured anew."""


@dataclass(frozen=True)
class Target:
    """What a margin may use: the similarity of each sample to its own class, and what else is known of the two.

    Args:
        similarity: ``(N,)``.
        lengths: ``(N,)``, what the similarity is to be divided by to be a cosine; None where it is one.
        steps: optimizer steps done so far, for what is annealed.
        margins: ``(N,)``, the learned or measured margin of each sample's class.
        penalty: ``(N,)``, a penalty of each sample.
        squared_sines: tells ``sin^2`` of the angle of the samples at some positions from their vectors; None where no
            one angle stands behind the similarity.
    """

    similarity: Float[Tensor, " N"]
    lengths: Float[Tensor, " N"] | None = None
    steps: Int[Tensor, ""] | None = None
    margins: Float[Tensor, " N"] | None = None
    penalty: Float[Tensor, " N"] | None = None
    squared_sines: Callable[[Tensor], Tensor] | None = None

    @property
    def cosine(self) -> Float[Tensor, " N"]:
        """The cosine of the angle between each sample and its own class."""
        return self.similarity if self.lengths is None else self.similarity / self.lengths

    @property
    def sine(self) -> Float[Tensor, " N"]:
        """The sine of that angle, which the cosine alone does not tell near 0 and 180 degrees.

        A cosine of 1 less one rounding would be an angle of 1e-8. Backward takes an angle that small for 1e-8, so that
        what rounding makes of the direction is not blown up.
        """
        squares = (1 - self.cosine) * (1 + self.cosine)
        (rows,) = (squares.detach() < NEAR).nonzero(as_tuple=True)
        if self.squared_sines is None or len(rows) == 0:
            return safe_sqrt(squares)
        exact = self.squared_sines(rows).to(squares.dtype)
        bounded = exact.clamp(min=torch.finfo(exact.dtype).eps)
        sine = safe_sqrt(squares.index_add(0, rows, bounded - squares.detach()[rows]))
        return sine.index_add(0, rows, exact.sqrt() - bounded.sqrt())

    @property
    def angle(self) -> Float[Tensor, " N"]:
        """The angle itself, radians in [0, pi]; it gets no gradient at 0 and pi."""
        return torch.atan2(self.sine, self.cosine)

    def change(self, cosine: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        """Return what the similarity changes by when its cosine becomes ``cosine``."""
        return cosine - self.similarity if self.lengths is None else self.lengths * cosine - self.similarity


Margin = Callable[[Target], Tensor]
MARGINS: Slot[Margin] = Slot("margin")


@MARGINS.part("none")
def none(target: Target) -> Float[Tensor, " N"]:
    """Leave the target as it is."""
    return torch.zeros_like(target.similarity)


@MARGINS.register("additive")
@dataclass(frozen=True, kw_only=True)
class Additive:
    """Subtract ``margin`` >= 0 from the similarity.

    Source: Wang et al., Additive Margin Softmax, 2018; Wang et al., CosFace, CVPR 2018, Eq. 4.
    """

    margin: NonNegative = 0.35

    def __call__(self, target: Target) -> Float[Tensor, " N"]:
        """Return ``-margin``."""
        return torch.full_like(target.similarity, -self.margin)


@MARGINS.register("angular")
@dataclass(frozen=True, kw_only=True)
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

    margin: Radians = 0.5
    overflow: Overflow = "insightface"
    straight_through: bool = False

    def __call__(self, target: Target) -> Float[Tensor, " N"]:
        """Return what the similarity of each target changes by."""
        cosine = target.cosine
        shifted = self._shift(cosine, target.sine)
        return target.change(cosine + (shifted - cosine).detach() if self.straight_through else shifted)

    def _shift(self, cosine: Float[Tensor, " N"], sine: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        shifted = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        falls = cosine >= -math.cos(self.margin)  # theta <= pi - margin
        if self.overflow == "insightface":
            return torch.where(falls, shifted, cosine - self.margin * math.sin(self.margin))
        if self.overflow == "continuous":
            return torch.where(falls, shifted, -2 - shifted)
        if self.overflow == "easy":
            return torch.where(cosine > 0, shifted, cosine)
        return shifted


@MARGINS.register("multiplicative")
@dataclass(frozen=True, kw_only=True)
class Multiplicative:
    """Multiply the angle theta: replace its cosine by ``(psi(margin theta) + lambda cos(theta)) / (1 + lambda)``.

    psi is the cosine, continued so that it falls for ever: ``(-1)^k cos(phi) - 2 k`` for phi in [k pi, (k+1) pi].

    Args:
        margin: m >= 1; an integer costs no arc cosine in the gradient.
        annealing: lambda by optimizer step; a number never changes.

    Source: Liu et al., L-Softmax, ICML 2016, Eqs. 4 to 7; Liu et al., SphereFace, CVPR 2017.
    """

    margin: Factor = 4.0
    annealing: Schedule = ANNEALED

    def __call__(self, target: Target) -> Float[Tensor, " N"]:
        """Return what the similarity of each target changes by."""
        cosine = target.cosine
        steps = torch.zeros((), dtype=torch.int64, device=cosine.device) if target.steps is None else target.steps
        mixed = self.annealing.at(steps).to(cosine.dtype)
        whole = self.margin == int(self.margin)
        psi = chebyshev(cosine, int(self.margin)) if whole else falling_cosine(self.margin * target.angle)
        return target.change((psi + mixed * cosine) / (1 + mixed))


@MARGINS.register("combined")
@dataclass(frozen=True, kw_only=True)
class Combined:
    """Replace the cosine of the angle theta by ``cos(m1 theta + m2) - m3``.

    Args:
        m1: > 0, times the angle.
        m2: >= 0, added to the angle, radians.
        m3: >= 0, subtracted from the cosine.
        overflow: ``none`` lets the cosine rise again beyond m1 theta + m2 = pi; ``monotone`` continues it as psi of
            ``multiplicative``, so that it falls for ever.

    Source: Deng et al., ArcFace, CVPR 2019, Eq. 4.
    """

    m1: Positive = 1.0
    m2: Radians = 0.3
    m3: NonNegative = 0.2
    overflow: Literal["none", "monotone"] = "none"

    def __call__(self, target: Target) -> Float[Tensor, " N"]:
        """Return what the similarity of each target changes by."""
        angle = self.m1 * target.angle + self.m2
        return target.change((angle.cos() if self.overflow == "none" else falling_cosine(angle)) - self.m3)


@MARGINS.register("per_class")
@dataclass(frozen=True, kw_only=True)
class PerClass:
    """Use a margin of each class's own, which the loss learns: ``cos_y - m_y``, or ``cos(theta_y + m_y)``.

    Args:
        angular: whether the margin is added to the angle instead of subtracted from the cosine.
        low: learned margins start in U(low, high) and stay in [0, 1].
        high: see ``low``.

    Source: Liu et al., AdaptiveFace, CVPR 2019, Eq. 4.
    """

    angular: bool = False
    low: Probability = 0.3
    high: Probability = 0.4

    def start(self, num_classes: int) -> Float[Tensor, " C"]:
        """Draw the margins that training begins with."""
        return torch.empty(num_classes).uniform_(self.low, max(self.low, self.high))

    def __call__(self, target: Target) -> Float[Tensor, " N"]:
        """Return what the similarity of each target changes by."""
        assert target.margins is not None
        if not self.angular:
            return -target.margins
        return target.change(target.cosine * target.margins.cos() - target.sine * target.margins.sin())


@dataclass(frozen=True, kw_only=True)
class MeasuredPerClass:
    """Multiply the angle theta by its class's own factor m and subtract a penalty p: ``psi(m theta) - weight p``.

    Args:
        weight: >= 0, of the sample's penalty.

    Source: Khan et al., Striking the Right Balance with Uncertainty, CVPR 2019.
    """

    weight: Finite = 0.5

    def __call__(self, target: Target) -> Float[Tensor, " N"]:
        """Return what the similarity of each target changes by."""
        assert target.margins is not None
        psi = falling_cosine(target.margins * target.angle)
        return target.change(psi if target.penalty is None else psi - self.weight * target.penalty)


def is_angular(margin: Margin) -> bool:
    """Return whether a margin acts on an angle, and so needs a similarity that is a cosine times lengths."""
    kinds = (Angular, Multiplicative, Combined, MeasuredPerClass)
    return isinstance(margin, kinds) or (isinstance(margin, PerClass) and margin.angular)
