"""Triplet losses: an anchor shall be nearer to a positive of the batch than to a negative.

In the formulas D_ap and D_an are the distances from an anchor to a positive and to a negative.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dml_bench.losses.loss import LOSSES, Loss, Task
from dml_bench.losses.miners import Miner, SemiHard, beyond_else_farthest, every, hardest, pairs_of
from dml_bench.losses.numerics import mean_or_zero, pairwise_distances, softplus, unit
from dml_bench.registry import NonNegative


class TripletLoss(Loss):
    """Ask that negatives are farther away than positives, in the triplets that the miner chooses.

    Args:
        task: the facts about the training set.
        miner: distances, positive pairs and negative pairs to triplets.
        margin: >= 0; None takes ``log(1 + exp(D_ap - D_an))`` for the hinge.
        squared: whether distances are squared.
        normalize: whether embeddings are brought to unit length first.
        only_violations: whether triplets that cost nothing are left out of the mean.
    """

    def __init__(
        self,
        task: Task,
        miner: Miner,
        *,
        margin: float | None,
        squared: bool,
        normalize: bool,
        only_violations: bool = False,
    ) -> None:
        super().__init__(task)
        self.miner, self.margin, self.squared, self.normalize = miner, margin, squared, normalize
        self.only_violations = only_violations

    def compute(
        self, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"], indices: Int[Tensor, " N"] | None
    ) -> dict[str, Tensor]:
        """Return the mean over the chosen triplets."""
        distances = pairwise_distances(unit(embeddings) if self.normalize else embeddings)
        distances = distances.square() if self.squared else distances
        with torch.no_grad():
            anchors, positives, negatives = self.miner(distances, *pairs_of(labels))
        violation = distances[anchors, positives] - distances[anchors, negatives]
        costs = softplus(violation) if self.margin is None else (violation + self.margin).relu()
        return {"triplets": mean_or_zero(costs[costs > 0] if self.only_violations else costs, embeddings)}


@LOSSES.register("triplet_all")
def triplet_all(
    task: Task,
    /,
    *,
    margin: NonNegative = 0.2,
    squared: bool = True,
    reduction: Literal["nonzero", "mean"] = "nonzero",
) -> Loss:
    """Compare each anchor's positives with all of its negatives.

    loss = mean of max(0, D_ap - D_an + m) over all triplets of the batch (reduction=mean) or over those that cost
    something (reduction=nonzero), D = ||x_a - x_b||^2 of unit vectors, not squared if asked for.

    Source: Schroff et al., FaceNet, CVPR 2015, Eqs. 2 and 3; nonzero: Hermans et al., In Defense of the Triplet Loss
        for Person Re-Identification, 2017, and pytorch-metric-learning.
    Differs: FaceNet sums. With reduction=nonzero the loss may rise while fewer triplets violate the margin.
    """
    return TripletLoss(
        task, every, margin=margin, squared=squared, normalize=True, only_violations=reduction == "nonzero"
    )


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
