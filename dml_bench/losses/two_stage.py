"""Noise-resistant training in two stages: plain softmax first, then new centers and less trust in the labels."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dml_bench.epoch import EpochContext
from dml_bench.losses.centers import gaussian
from dml_bench.losses.loss import LOSSES, Task, remembered
from dml_bench.losses.margins import Angular, Overflow
from dml_bench.losses.objectives import Bootstrap, Objective, softmax
from dml_bench.losses.proxy import ProxyLoss
from dml_bench.registry import Count, Positive, Probability, Radians

BLOCK = 1 << 22
"""Logits held at once."""


class TwoStage(ProxyLoss):
    """Train by softmax; from an epoch on, start the centers anew, leave images out, and train by ``Bootstrap``.

    Args:
        task: the facts about the training set.
        from_epoch: >= 1, the first epoch of the second stage.
        beta: of ``Bootstrap``.
        drop_below: in [0, 1]; images whose largest probability is below it when the second stage begins are left out.
        margin: an angular margin.
        scale: > 0.

    Attributes:
        stage: 1 or 2.
        kept: ``(n,)``, which training images count in the second stage; empty in the first.
    """

    stage: Tensor
    kept: Tensor
    sized_by_training_set = ("kept",)

    def __init__(
        self, task: Task, *, from_epoch: int, beta: float, drop_below: float, margin: Angular, scale: float
    ) -> None:
        super().__init__(task, margin=margin, scale=scale)
        self.from_epoch, self.drop_below = from_epoch, drop_below
        self.objectives: dict[int, Objective] = {1: softmax, 2: Bootstrap(beta=beta)}
        self.register_buffer("stage", torch.tensor(1 if from_epoch > 1 else 2))
        self.register_buffer("kept", torch.zeros(0, dtype=torch.bool))

    def compute(
        self, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"], indices: Int[Tensor, " N"] | None
    ) -> dict[str, Tensor]:
        """Return the mean cost of the images that count."""
        self.objective = self.objectives[int(self.stage)]
        kept = remembered(self.kept, indices)
        if kept is None or kept.all():
            return super().compute(embeddings, labels, indices)
        if not kept.any():
            return {"objective": (0 * embeddings).sum()}
        return super().compute(embeddings[kept], labels[kept], None)

    def on_epoch_start(self, context: EpochContext) -> None:
        """Begin the second stage when its epoch has come."""
        if context.epoch < self.from_epoch or self.stage == 2:
            return
        self.stage.fill_(2)
        rows = torch.split(context.embed(), max(1, BLOCK // self.task.num_classes))
        certainty = torch.cat([self.class_scores(part).softmax(dim=1).amax(dim=1) for part in rows])
        self.kept = certainty >= self.drop_below
        self.centers.data.copy_(gaussian(*self.centers.shape))


@LOSSES.register("nra_two_stage")
def nra_two_stage(
    task: Task,
    /,
    *,
    from_epoch: Count = 11,
    drop_below: Probability = 0.0,
    beta: Probability = 0.9,
    margin: Radians = 0.5,
    scale: Positive = 64.0,
    overflow: Overflow = "insightface",
) -> TwoStage:
    """Train by arcface first; then start the centers anew and trust labels only so far, as nra does.

    In epoch from_epoch, and not before, images whose largest softmax probability (without margin) is below drop_below
    are left out from then on, the centers are drawn anew, and the loss becomes that of nra. from_epoch=1 is nra alone.

    Source: Zhong et al., Unequal-training for Deep Face Recognition with Long-tailed Noisy Data, CVPR 2019; the stages
        and the dropping from the authors' code.
    Interpretation: the authors start the second stage by hand, when validation stalls; their threshold is not known,
        and 0 drops nothing.
    Differs: the optimizer keeps what it remembers of the centers, and the learning rate follows the recipe's schedule.
    """
    angular = Angular(margin=margin, overflow=overflow)
    return TwoStage(task, from_epoch=from_epoch, beta=beta, drop_below=drop_below, margin=angular, scale=scale)
