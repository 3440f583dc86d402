"""Margins and penalties from how unsure a network is, which passes with dropout tell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from dml_bench.epoch import EpochContext
from dml_bench.errors import OptionError, Problem
from dml_bench.losses.loss import LOSSES, Task, remembered
from dml_bench.losses.margins import MeasuredPerClass, Target
from dml_bench.losses.proxy import ProxyLoss
from dml_bench.losses.similarity import dot
from dml_bench.registry import NonNegative

Competitor = Literal["hardest", "sum", "count"]
BLOCK = 1 << 22
"""Numbers held at once, besides the passes."""


class UncertaintySoftmax(ProxyLoss):
    """Softmax with a factor on the angle for each class and a penalty for each training image, renewed every epoch.

    Args:
        task: the facts about the training set.
        margin_max: >= 1, the factor of the most uncertain class.
        penalty_weight: of the penalties.
        passes: >= 2, with dropout.
        competitor: see ``penalties``.
        noise: >= 0, variance that every entry of an embedding has besides what the passes show.

    Attributes:
        class_margins: ``(C,)`` factors, 1 before the first epoch.
        penalties: ``(n,)`` of the training images; empty before the first epoch.
    """

    class_margins: Tensor
    penalties: Tensor
    needs_dropout = True
    sized_by_training_set = ("penalties",)

    def __init__(
        self,
        task: Task,
        *,
        margin_max: float,
        penalty_weight: float,
        passes: int,
        competitor: Competitor,
        noise: float = 0.0,
    ) -> None:
        super().__init__(task, similarity=dot, margin=MeasuredPerClass(weight=penalty_weight))
        self.margin_max, self.passes, self.competitor, self.noise = margin_max, passes, competitor, noise
        self.register_buffer("class_margins", torch.ones(task.num_classes))
        self.register_buffer("penalties", torch.zeros(0))

    def aim(
        self,
        similarity: Float[Tensor, " N"],
        embeddings: Float[Tensor, "N D"],
        centers: Float[Tensor, "C K D"],
        labels: Int[Tensor, " N"],
        indices: Int[Tensor, " N"] | None,
    ) -> Target:
        """Add the margin of each sample's class, and its penalty if it is a known training image."""
        target = super().aim(similarity, embeddings, centers, labels, indices)
        penalty = remembered(self.penalties, indices)
        return replace(
            target,
            margins=self.class_margins[labels].to(similarity),
            penalty=None if penalty is None else penalty.to(similarity),
        )

    def on_epoch_start(self, context: EpochContext) -> None:
        """Measure margins and penalties anew."""
        passes = torch.stack([context.embed_with_dropout() for _ in range(self.passes)])
        classes, labels = self.task.num_classes, context.labels
        centers = self.centers.detach()[:, 0].to(passes)
        self.class_margins.copy_(class_margins(passes, labels, classes, self.margin_max, self.noise))
        self.penalties = penalties(passes, labels, centers, self.competitor, self.noise).to(self.class_margins)


def class_margins(
    passes: Float[Tensor, "T n D"], labels: Int[Tensor, " n"], num_classes: int, margin_max: float, noise: float = 0.0
) -> Float[Tensor, " C"]:
    """Return ``1 + (margin_max - 1) u_c / max u``, u_c the mean variance of an embedding's entry in class c.

    Args:
        passes: embeddings of n samples in T passes.
        labels: of the samples.
        num_classes: C.
        margin_max: margin of the most uncertain class; others get at least 1.
        noise: added to every variance.
    """
    variance = passes.var(dim=0, correction=0).mean(dim=1) + noise
    counts = torch.bincount(labels, minlength=num_classes).clamp(min=1)
    unsure = variance.new_zeros(num_classes).index_add_(0, labels, variance) / counts
    return 1 + (margin_max - 1) * unsure / unsure.max().clamp(min=torch.finfo(unsure.dtype).tiny)


def error_probability(mean: Float[Tensor, "*shape"], deviation: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return the probability that a normal variable is above 0; 1/2 where its mean is 0."""
    return 0.5 * torch.erfc(-mean / (math.sqrt(2) * deviation).clamp(min=torch.finfo(mean.dtype).tiny))


def penalties(
    passes: Float[Tensor, "T n D"],
    labels: Int[Tensor, " n"],
    centers: Float[Tensor, "C D"],
    competitor: Competitor,
    noise: float = 0.0,
) -> Float[Tensor, " n"]:
    """Return the probability that each sample is taken for another class, given the spread of its passes.

    The advantage ``(w_j - w_y) . f`` of class j over the own class y is taken as normal, with mean and variance of the
    T passes; ``noise ||w_j - w_y||^2`` is added to the variance.

    Args:
        passes: embeddings f of n samples in T passes.
        labels: y.
        centers: w.
        competitor: ``hardest`` takes the class j with the largest mean advantage, a lower bound of the true error;
            ``sum`` adds the probabilities of all classes, at most 1, an upper bound; ``count`` returns the share of
            passes in which another class wins.
        noise: >= 0.
    """
    rows = max(1, BLOCK // len(centers))
    measure = {"hardest": _hardest, "sum": _sum, "count": _count}[competitor]
    parts = zip(torch.split(passes, rows, dim=1), torch.split(labels, rows), strict=True)
    return torch.cat([measure(part, own, centers, noise) for part, own in parts])


def _hardest(
    passes: Float[Tensor, "T n D"], labels: Int[Tensor, " n"], centers: Float[Tensor, "C D"], noise: float
) -> Float[Tensor, " n"]:
    others = _others(passes.mean(dim=0) @ centers.T, labels)
    apart = centers[others.argmax(dim=1)] - centers[labels]
    advantage = torch.einsum("tnd,nd->tn", passes, apart)
    variance = advantage.var(dim=0, correction=0) + noise * apart.square().sum(dim=1)
    return error_probability(advantage.mean(dim=0), variance.sqrt())


def _sum(
    passes: Float[Tensor, "T n D"], labels: Int[Tensor, " n"], centers: Float[Tensor, "C D"], noise: float
) -> Float[Tensor, " n"]:
    middle = passes.mean(dim=0)
    variance = noise * torch.cdist(centers[labels], centers).square()
    for deviation in passes - middle:
        variance += _advantage(deviation, labels, centers).square_() / len(passes)
    errors = error_probability(_advantage(middle, labels, centers), variance.sqrt())
    return errors.scatter(1, labels[:, None], 0.0).sum(dim=1).clamp(max=1)


def _count(
    passes: Float[Tensor, "T n D"], labels: Int[Tensor, " n"], centers: Float[Tensor, "C D"], noise: float
) -> Float[Tensor, " n"]:
    wrong = [_others(_advantage(part, labels, centers), labels).amax(dim=1) > 0 for part in passes]
    return torch.stack(wrong).to(passes.dtype).mean(dim=0)


def _advantage(
    embeddings: Float[Tensor, "n D"], labels: Int[Tensor, " n"], centers: Float[Tensor, "C D"]
) -> Float[Tensor, "n C"]:
    """Return ``(w_j - w_y) . f`` of each class j."""
    logits = embeddings @ centers.T
    return logits - logits.gather(1, labels[:, None])


def _others(logits: Float[Tensor, "n C"], labels: Int[Tensor, " n"]) -> Float[Tensor, "n C"]:
    return logits.scatter(1, labels[:, None], -torch.inf)


def _refuse_certainty(recipe: Mapping[str, Any]) -> None:
    """Refuse a network that says of itself that it drops nothing out."""
    if recipe["backbone"].get("dropout") == 0:
        message = "must be > 0 for uncertainty_softmax, which measures how much passes with dropout differ, not 0.0"
        raise OptionError([Problem(("backbone", "dropout"), message)])


@LOSSES.register("uncertainty_softmax", beside=_refuse_certainty)
def uncertainty_softmax(
    task: Task,
    /,
    *,
    margin_max: Annotated[float, Field(ge=1, le=64)] = 3.0,
    penalty_weight: NonNegative = 0.5,
    passes: Annotated[int, Field(ge=2)] = 10,
    competitor: Competitor = "hardest",
) -> UncertaintySoftmax:
    """Ask for larger margins where the network is unsure of a class, and where it is likely to err on an image.

    loss = -log( exp(z_y) / (exp(z_y) + sum_{j != y} exp(w_j . x)) ),
    z_y = ||w_y|| ||x|| (psi(m_y theta_y) - lambda P_i), with nothing normalised, lambda = penalty_weight and psi the
    cosine continued so that it falls for ever (see l_softmax). When an epoch begins, each training image is embedded
    several times (passes) with dropout. m_c = 1 + (margin_max - 1) u_c / max u, u_c the mean variance of an entry of
    class c's embeddings. P_i is the probability that (w_j - w_y) . x_i > 0 if that is normal with the mean and variance
    of the passes; competitor=hardest takes the class j of the largest mean, sum adds up all classes, at most 1, and
    count is the share of passes in which another class wins. Before the first epoch m = 1 and P = 0; without
    indices P = 0.

    Source: Khan et al., Striking the Right Balance with Uncertainty, CVPR 2019; passes with dropout: Gal and
        Ghahramani, Dropout as a Bayesian Approximation, ICML 2016.
    Interpretation: neither the paper's formulas nor code could be read. The place of P in the bracket, lambda, the map
        from variance to m, margin_max=3 and the competitor are ours; the observation noise of Gal and Ghahramani is 0.
    Differs: unknown, see the interpretation.
    """
    return UncertaintySoftmax(
        task, margin_max=margin_max, penalty_weight=penalty_weight, passes=passes, competitor=competitor
    )
