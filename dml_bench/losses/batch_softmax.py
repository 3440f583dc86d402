"""Softmax over the samples of the batch: one of them is the right answer, as a class is in the proxy losses.

In the formulas x are embeddings and S cosines of two embeddings of the batch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dml_bench.errors import DataError
from dml_bench.losses.loss import LOSSES, Loss, Task
from dml_bench.losses.miners import pairs_of
from dml_bench.losses.numerics import length, masked_logsumexp, mean_or_zero, unit
from dml_bench.registry import NonNegative, Positive


class SupervisedContrastive(Loss):
    """Ask each anchor for its positives among all other samples.

    Args:
        task: the facts about the training set.
        temperature: > 0.
    """

    def __init__(self, task: Task, temperature: float) -> None:
        super().__init__(task)
        self.temperature = temperature

    def compute(
        self, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"], indices: Int[Tensor, " N"] | None
    ) -> dict[str, Tensor]:
        """Return the mean over the anchors that have a positive."""
        directions = unit(embeddings)
        logits, (positives, negatives) = directions @ directions.T / self.temperature, pairs_of(labels)
        right = logits.where(positives, 0.0).sum(dim=1) / positives.sum(dim=1).clamp(min=1)
        costs = masked_logsumexp(logits, positives | negatives) - right
        return {"anchors": mean_or_zero(costs[positives.any(dim=1)], embeddings)}


class NPair(Loss):
    """Ask one anchor per class for its positive among the positives of all classes.

    Args:
        task: the facts about the training set.
        regularizer_weight: >= 0, weighs the mean squared length of anchors and positives.
    """

    def __init__(self, task: Task, regularizer_weight: float) -> None:
        super().__init__(task)
        self.regularizer_weight = regularizer_weight

    def compute(
        self, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"], indices: Int[Tensor, " N"] | None
    ) -> dict[str, Tensor]:
        """Return the mean over the classes with two samples and, if asked for, the weighted squared length."""
        anchors, positives = (embeddings[rows] for rows in first_two(labels))
        logits = anchors @ positives.T
        if not math.isfinite(logits.detach().sum()):
            raise DataError(
                f"npair multiplies embeddings as they are, and their products overflow {logits.dtype}: the longest is "
                f"{length(embeddings).max():.1g} long; normalise them, or add a LayerNorm to the embedder"
            )
        rows = F.cross_entropy(logits, torch.arange(len(logits), device=logits.device), reduction="none")
        terms = {"classes": mean_or_zero(rows, embeddings)}
        if self.regularizer_weight > 0:
            squares = torch.cat([anchors, positives]).square().sum(dim=1)
            terms["regularizer"] = self.regularizer_weight * mean_or_zero(squares, embeddings)
        return terms


def first_two(labels: Int[Tensor, " N"]) -> tuple[Int[Tensor, " M"], Int[Tensor, " M"]]:
    """Return the positions of the first and the second sample of each class that has two."""
    order = labels.argsort(stable=True)
    ordered = labels[order]
    again = ordered[1:] == ordered[:-1]
    fresh = torch.cat([again.new_ones(1), ~again])
    (starts,) = (fresh[:-1] & again).nonzero(as_tuple=True)
    return order[starts], order[starts + 1]


@LOSSES.register("supcon")
def supcon(task: Task, /, *, temperature: Positive = 0.1) -> Loss:
    """Ask each anchor for its positives among all other samples of the batch (supervised contrastive learning).

    loss = -mean_p log( exp(S_ap / T) / sum_{k != a} exp(S_ak / T) ), T = temperature; mean over the anchors a that have
    a positive. With one positive each this is NT-Xent.

    Source: Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, Eq. 2.
    Differs: the authors' code has T=0.07 and multiplies by T / 0.07. pytorch-metric-learning 2.9 gives 0 for a batch
        of one class, where this loss still spreads the samples evenly.
    """
    return SupervisedContrastive(task, temperature)


@LOSSES.register("npair")
def npair(task: Task, /, *, regularizer_weight: NonNegative = 0.0) -> Loss:
    """Ask one anchor per class for its positive among the positives of all classes.

    loss = -log( exp(a_i . p_i) / sum_j exp(a_i . p_j) ) + weight mean ||x||^2, a_i and p_i the first and second sample
    of the i-th class in the batch, not normalised; mean over the classes with two samples, and over these samples.

    Source: Sohn, Improved Deep Metric Learning with Multi-class N-pair Loss Objective, NIPS 2016, Eqs. 7 and 8.
    Differs: further samples of a class are left out. pytorch-metric-learning normalises by default, without a
        temperature, so that its loss cannot fall below log(1 + (C-1) exp(-C / (C-1))).
    Interpretation: the squared length is averaged over the vectors that take part.
    """
    return NPair(task, regularizer_weight)
