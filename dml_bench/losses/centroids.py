"""Losses on the mean directions of the classes in a batch; they learn nothing of their own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dml_bench.losses.loss import Loss, Task
from dml_bench.losses.numerics import unit


def mean_directions(
    directions: Float[Tensor, "N D"], labels: Int[Tensor, " N"]
) -> tuple[Float[Tensor, "M D"], Int[Tensor, " N"]]:
    """Return the mean of each class's unit vectors, brought to unit length, and the row of each sample's class."""
    present, rows = torch.unique(labels, return_inverse=True)
    sums = directions.new_zeros(len(present), directions.shape[1]).index_add(0, rows, directions)
    return unit(sums), rows


class BatchCentroids(Loss):
    """Compare embeddings by softmax with the mean directions of the classes in the batch.

    Args:
        task: the facts about the training set.
        scale: > 0, on the cosines.
    """

    takes_pixels = True

    def __init__(self, task: Task, scale: float) -> None:
        super().__init__(task)
        self.scale = scale

    def compute(
        self, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"], indices: Int[Tensor, " N"] | None
    ) -> dict[str, Tensor]:
        """Return the mean cross-entropy; 0 if the batch has one class."""
        directions = unit(embeddings)
        means, rows = mean_directions(directions, labels)
        return {"objective": F.cross_entropy(self.scale * directions @ means.T, rows)}


class CenterDispersed(Loss):
    """Make the mean directions of the classes in the batch orthogonal.

    Args:
        task: the facts about the training set.
        weight: >= 0.
    """

    takes_pixels = True

    def __init__(self, task: Task, weight: float) -> None:
        super().__init__(task)
        self.weight = weight

    def compute(
        self, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"], indices: Int[Tensor, " N"] | None
    ) -> dict[str, Tensor]:
        """Return the weighted mean over the M^2 pairs of classes, of which the M pairs of a class with itself are 0."""
        means, _ = mean_directions(unit(embeddings), labels)
        cosines = means @ means.T
        itself = torch.eye(len(means), dtype=torch.bool, device=means.device)
        return {"dispersion": self.weight * cosines.masked_fill(itself, 0.0).square().mean()}
