"""Pair and triplet losses: they compare the embeddings of a batch with each other and learn nothing of their own.

In the formulas D_ap and D_an are the distances from an anchor to a positive and a negative of the batch, and S are
cosines; x are embeddings.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dml_bench.losses.loss import LOSSES, Loss, Task
from dml_bench.losses.miners import Miner, SemiHard, beyond_else_farthest, hardest, pairs_of, violating
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
        first, second = torch.triu_indices(len(labels), len(labels), offset=1, device=labels.device)
        distances = pairwise_distances(unit(embeddings))[first, second]
        same = labels[first] == labels[second]
        costs = {"positives": distances[same], "negatives": (self.margin - distances[~same]).relu()}
        if self.linear:
            return {name: mean_or_zero(cost[cost > 0], embeddings) for name, cost in costs.items()}
        return {name: cost.square().sum() / max(2 * len(distances), 1) for name, cost in costs.items()}


class TripletLoss(Loss):
    """Ask that negatives are farther away than positives, in the triplets that the miner chooses.

    Args:
        task: the facts about the training set.
        miner: distances, positive pairs and negative pairs to D_ap and D_an.
        margin: >= 0; None takes ``log(1 + exp(D_ap - D_an))`` for the hinge.
        squared: whether distances are squared.
        normalize: whether embeddings are brought to unit length first.
    """

    def __init__(self, task: Task, miner: Miner, *, margin: float | None, squared: bool, normalize: bool) -> None:
        super().__init__(task)
        self.miner, self.margin, self.squared, self.normalize = miner, margin, squared, normalize

    def compute(
        self, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"], indices: Int[Tensor, " N"] | None
    ) -> dict[str, Tensor]:
        """Return the mean over the chosen triplets, those with loss 0 included."""
        distances = pairwise_distances(unit(embeddings) if self.normalize else embeddings)
        to_positive, to_negative = self.miner(distances**2 if self.squared else distances, *pairs_of(labels))
        violation = to_positive - to_negative
        costs = softplus(violation) if self.margin is None else (violation + self.margin).relu()
        return {"triplets": mean_or_zero(costs, embeddings)}


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


@LOSSES.register("triplet_batch_hard")
def triplet_batch_hard(
    task: Task, /, *, margin: NonNegative | None = None, squared: bool = False, normalize: bool = False
) -> Loss:
    """Compare, for each anchor, its farthest positive with its nearest negative.

    loss = log(1 + exp(max_p D_ap - min_n D_an)), or max(0, max_p D_ap - min_n D_an + m) with a margin m; mean over the
    anchors that have both. D = ||x_a - x_b||, squared or between unit vectors if asked for.

    Source: Hermans et al., In Defense of the Triplet Loss for Person Re-Identification, 2017, Eq. 5 and section 2.
    Differs: nothing.
    """
    return TripletLoss(task, hardest, margin=margin, squared=squared, normalize=normalize)


@LOSSES.register("triplet_semihard")
def triplet_semihard(
    task: Task,
    /,
    *,
    margin: NonNegative = 0.2,
    squared: bool = True,
    pick: Literal["strict", "tf", "all"] = "strict",
) -> Loss:
    """Compare positives with negatives that are farther away than them, but within the margin.

    loss = mean of max(0, D_ap - D_an + m) over the picked triplets, D = ||x_a - x_b||^2 of unit vectors.
    pick=strict: for each (a, p) the nearest n with D_ap < D_an <= D_ap + m, none if there is none; pick=tf: the nearest
    n with D_an > D_ap, else the farthest n; pick=all: every n with D_ap < D_an <= D_ap + m.

    Source: Schroff et al., FaceNet, CVPR 2015, Eqs. 2 to 4; tf: TensorFlow Addons; all: the miner of
        pytorch-metric-learning.
    Differs: the paper leaves open which semi-hard negative is taken; the three picks are three losses.
    """
    miner = beyond_else_farthest if pick == "tf" else SemiHard(margin, nearest=pick == "strict")
    return TripletLoss(task, miner, margin=margin, squared=squared, normalize=True)


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
