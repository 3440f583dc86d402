"""The weighting slot: how much each sample counts, as a factor on the cost that the part before left; then the mean.

A part maps ``(N,) costs``, ``(N,)`` log-probabilities of the own class and ``(N,)`` labels to ``(N,)`` factors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from dml_bench.errors import OptionError, Problem
from dml_bench.losses.loss import Task
from dml_bench.losses.slots import Slot
from dml_bench.registry import Fraction, NonNegative, Probability

Weighting = Callable[[Tensor, Tensor, Tensor], Tensor]
WEIGHTINGS: Slot[Weighting] = Slot("weighting")


@WEIGHTINGS.register("hardest")
@dataclass(frozen=True, kw_only=True)
class Hardest:
    """Keep the samples of highest cost (online hard example mining); the mean is then over those.

    Args:
        keep_ratio: share of the batch that is kept, rounded down, at least one sample.
        threshold: in [0, 1]; if given, samples whose probability of the own class is below it are kept as well.

    Source: Shrivastava et al., Training Region-based Object Detectors with Online Hard Example Mining, CVPR 2016.
    """

    keep_ratio: Fraction = 0.7
    threshold: Probability | None = None

    def __call__(
        self, costs: Float[Tensor, " N"], log_probability: Float[Tensor, " N"], labels: Int[Tensor, " N"]
    ) -> Float[Tensor, " N"]:
        """Return N / kept for what is kept and 0 for the rest; the choice is constant in the gradient."""
        count = max(1, math.floor(self.keep_ratio * len(costs) + 1e-9))
        kept = torch.zeros_like(costs).index_fill_(0, costs.detach().topk(count).indices, 1.0)
        if self.threshold is not None:
            kept = torch.where(log_probability.detach().exp() < self.threshold, 1.0, kept)
        return kept * (len(costs) / kept.sum())


@dataclass(frozen=True)
class Focal:
    """Multiply by ``(1 - p)^gamma``, p the softmax probability of the own class.

    Args:
        gamma: >= 0; at 0 nothing changes.
    """

    gamma: float

    def __call__(
        self, costs: Float[Tensor, " N"], log_probability: Float[Tensor, " N"], labels: Int[Tensor, " N"]
    ) -> Float[Tensor, " N"]:
        """Return the factors; below gamma = 1 the clamp keeps their derivative finite at p = 1."""
        doubts: Tensor = (-torch.expm1(log_probability)).clamp(min=1e-12)
        return doubts**self.gamma


@dataclass(frozen=True, eq=False)
class ClassWeights:
    """Multiply by a weight of the class.

    Args:
        weights: ``(C,)``, >= 0.
    """

    weights: Float[Tensor, " C"]

    def __call__(
        self, costs: Float[Tensor, " N"], log_probability: Float[Tensor, " N"], labels: Int[Tensor, " N"]
    ) -> Float[Tensor, " N"]:
        """Return the weight of each sample's class."""
        return self.weights.to(costs)[labels]


@dataclass(frozen=True)
class Product:
    """Multiply the factors of several parts.

    Args:
        parts: at least one.
    """

    parts: tuple[Weighting, ...]

    def __call__(
        self, costs: Float[Tensor, " N"], log_probability: Float[Tensor, " N"], labels: Int[Tensor, " N"]
    ) -> Float[Tensor, " N"]:
        """Return the product."""
        factors = torch.stack([part(costs, log_probability, labels) for part in self.parts])
        return factors.prod(dim=0)


@WEIGHTINGS.register("focal")
def focal(
    task: Task, /, *, gamma: NonNegative = 2.0, alpha: NonNegative | list[NonNegative] | None = None
) -> Weighting:
    """Multiply by ``alpha_y (1 - p)^gamma``, p the softmax probability of the own class.

    ``alpha`` is a factor, or a list of one per class.

    Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, Eqs. 4 and 5, with softmax for sigmoid.
    """
    if alpha is None:
        return Focal(gamma)
    if isinstance(alpha, list) and len(alpha) != task.num_classes:
        raise OptionError([Problem(("alpha",), f"needs one factor per class, {task.num_classes}, not {len(alpha)}")])
    weights = torch.tensor(alpha, dtype=torch.float64).expand(task.num_classes)
    return Product((Focal(gamma), ClassWeights(weights)))


@WEIGHTINGS.register("class_weights")
def class_weights(
    task: Task, /, *, beta: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.999
) -> ClassWeights:
    """Weigh classes by the inverse of their effective number of images.

    ``w_c = (1 - beta) / (1 - beta^n_c)`` with n_c images of class c, rescaled to sum to C. beta=0 changes nothing,
    beta towards 1 weighs by inverse frequency.

    Source: Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, Eq. 5.
    """
    counts = class_counts(task, "class_weights")
    if beta == 0:
        return ClassWeights(torch.ones_like(counts))
    weights = (1 - beta) / -torch.expm1(counts * math.log(beta))
    return ClassWeights(weights * (len(weights) / weights.sum()))


def class_counts(task: Task, user: str) -> Float[Tensor, " C"]:
    """Return the images per class in float64.

    Raises:
        OptionError: when they are not known, or a class has none.
    """
    if task.class_counts is None:
        raise OptionError([Problem(("class_counts",), f"{user} needs the images per class of the training set")])
    if (task.class_counts < 1).any():
        empty = int((task.class_counts < 1).nonzero()[0])
        raise OptionError(
            [Problem(("class_counts",), f"{user} needs at least 1 image per class; class {empty} has none")]
        )
    return task.class_counts.double()
