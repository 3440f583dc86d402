"""Pair losses: each pair of a batch has a cost of its own, or a weight that its anchor's other pairs decide.

In the formulas D are distances and S cosines of two embeddings of the batch; p stands for the positives of an anchor
and n for its negatives.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dml_bench.losses.loss import LOSSES, Loss, Task
from dml_bench.losses.miners import pairs_of, violating
from dml_bench.losses.numerics import masked_logsumexp, mean_or_zero, pairwise_distances, softplus, unit
from dml_bench.registry import Finite, NonNegative, Positive


class Contrastive(Loss):
    """Pull pairs of a class together and push other pairs to ``margin`` > 0 apart.

    Args:
        task: the facts about the training set.
        margin: distance of unit vectors, > 0, beyond which a pair of two classes costs nothing.
        linear: whether to average the violations that are not 0, for either kind of pair, instead of the halved squares
            over all pairs.
    """

    def __init__(self, task: Task, margin: float, linear: bool) -> None:
        super().__init__(task)
        self.margin, self.linear = margin, linear

    def compute(
        self, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"], indices: Int[Tensor, " N"] | None
    ) -> dict[str, Tensor]:
        """Return what the pairs of a class and the other pairs cost; each unordered pair counts once."""
        distances = pairwise_distances(unit(embeddings))
        same, other = (distances.masked_select(pairs.triu(1)) for pairs in pairs_of(labels))
        costs = {"positives": same, "negatives": (self.margin - other).relu()}
        if self.linear:
            return {name: mean_or_zero(cost[cost > 0], embeddings) for name, cost in costs.items()}
        return {name: cost.square().sum() / max(2 * (len(same) + len(other)), 1) for name, cost in costs.items()}


class MultiSimilarity(Loss):
    """Weigh the pairs of each anchor by their own similarity and by that of its other pairs.

    Args:
        task: the facts about the training set.
        alpha: sharpness for positives, > 0.
        beta: sharpness for negatives, > 0.
        base: similarity that positives should exceed and negatives should not reach.
        mining_epsilon: >= 0, slack of the mining; None takes all pairs.
    """

    def __init__(self, task: Task, alpha: float, beta: float, base: float, mining_epsilon: float | None) -> None:
        super().__init__(task)
        self.alpha, self.beta, self.base, self.mining_epsilon = alpha, beta, base, mining_epsilon

    def compute(
        self, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"], indices: Int[Tensor, " N"] | None
    ) -> dict[str, Tensor]:
        """Return the means over all anchors; those without a pair count as 0."""
        directions = unit(embeddings)
        similarities = directions @ directions.T
        positives, negatives = pairs_of(labels)
        if self.mining_epsilon is not None:
            positives, negatives = violating(similarities.detach(), positives, negatives, self.mining_epsilon)
        excess = similarities - self.base
        return {
            "positives": softplus(masked_logsumexp(-self.alpha * excess, positives)).mean() / self.alpha,
            "negatives": softplus(masked_logsumexp(self.beta * excess, negatives)).mean() / self.beta,
        }


class Circle(Loss):
    """Weigh each pair by how far its similarity is from its optimum.

    Args:
        task: the facts about the training set.
        margin: m; the optima are 1 + m for positives and -m for negatives.
        scale: > 0.
        per_anchor: whether each anchor compares its own pairs, instead of all pairs of the batch with each other.
    """

    def __init__(self, task: Task, margin: float, scale: float, per_anchor: bool) -> None:
        super().__init__(task)
        self.margin, self.scale, self.per_anchor = margin, scale, per_anchor

    def compute(
        self, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"], indices: Int[Tensor, " N"] | None
    ) -> dict[str, Tensor]:
        """Return the mean over the anchors that have both kinds of pairs, or the cost of the whole batch."""
        directions = unit(embeddings)
        similarities, (positives, negatives) = directions @ directions.T, pairs_of(labels)
        if not self.per_anchor:  # one row of all pairs, each counted once
            upper = torch.ones_like(positives).triu(1)
            similarities, positives, negatives = (m[upper][None] for m in (similarities, positives, negatives))
        constant = similarities.detach()
        pull = (1 + self.margin - constant).relu() * (1 - self.margin - similarities)
        push = (constant + self.margin).relu() * (similarities - self.margin)
        complete = positives.any(dim=1) & negatives.any(dim=1)
        logits = masked_logsumexp(self.scale * pull, positives) + masked_logsumexp(self.scale * push, negatives)
        return {"pairs": mean_or_zero(softplus(logits[complete]), embeddings)}


@LOSSES.register("contrastive")
def contrastive(task: Task, /, *, margin: Positive = 1.0, form: Literal["hadsell", "linear"] = "hadsell") -> Loss:
    """Pull pairs of a class together and push other pairs apart, up to a margin.

    form=hadsell: mean over all unordered pairs of D^2 / 2 (same class) or max(0, m - D)^2 / 2 (other class).
    form=linear: mean of the positive D of same-class pairs plus mean of the positive max(0, m - D) of other pairs.
    D is the distance of the unit vectors.

    Source: Hadsell et al., Dimensionality Reduction by Learning an Invariant Mapping, CVPR 2006, Eq. 4; linear:
        Musgrave et al., A Metric Learning Reality Check, ECCV 2020, and pytorch-metric-learning.
    Differs: embeddings are normalised; those of the first paper are not.
    """
    return Contrastive(task, margin, linear=form == "linear")


@LOSSES.register("multi_similarity")
def multi_similarity(
    task: Task,
    /,
    *,
    alpha: Positive = 2.0,
    beta: Positive = 50.0,
    base: Finite = 0.5,
    mining_epsilon: NonNegative | None = 0.1,
) -> Loss:
    """Weigh the pairs of each anchor by how wrong they are, alone and against each other.

    loss = mean_a [ log(1 + sum_p exp(-alpha (S_ap - base))) / alpha + log(1 + sum_n exp(beta (S_an - base))) / beta ].
    Mining keeps the n with S_an > min_p S_ap - epsilon and the p with S_ap < max_n S_an + epsilon; without it
    (mining_epsilon=null) all pairs count.

    Source: Wang et al., Multi-Similarity Loss with General Pair Weighting, CVPR 2019.
    Differs: base is 1 in the paper; the authors' code has base=0.5 with beta=40 and drops positives with S > 1 - 1e-5.
        pytorch-metric-learning 2.9 has the same numbers, but 0 where mining leaves one pair of each kind in the batch.
    """
    return MultiSimilarity(task, alpha, beta, base, mining_epsilon)


@LOSSES.register("circle")
def circle(
    task: Task,
    /,
    *,
    margin: Finite = 0.4,
    scale: Positive = 80.0,
    scope: Literal["anchor", "batch"] = "anchor",
) -> Loss:
    """Weigh each pair by its distance to the optimum, so that the border between in and out of order is a circle.

    loss = log(1 + sum_n exp(s [S_n + m]+ (S_n - m)) sum_p exp(-s [1 + m - S_p]+ (S_p - 1 + m))), s = scale,
    [t]+ = max(0, t), which counts as a constant: the gradient is not that of the value. scope=anchor: mean over the
    anchors that have positives and negatives; scope=batch: once for all unordered pairs of the batch.

    Source: Sun et al., Circle Loss, CVPR 2020, Eqs. 6 and 7 (m=0.25 and s=256 for faces, m=0.4 and s=80 for birds and
        cars); scope=anchor as in pytorch-metric-learning.
    Differs: nothing.
    """
    return Circle(task, margin, scale, per_anchor=scope == "anchor")
