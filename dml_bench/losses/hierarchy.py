"""Hierarchical triplet loss: margins from a tree of the classes that is grown anew each epoch."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dml_bench.epoch import EpochContext
from dml_bench.losses.loss import LOSSES, Loss, Task
from dml_bench.losses.miners import pairs_of
from dml_bench.losses.numerics import mean_or_zero, pairwise_distances, unit
from dml_bench.registry import Finite
from dml_bench.search.classes import class_means, single_linkage, spreads

LEVELS = 16
"""Levels of the tree above the lowest, L."""


def hierarchical_triplet(
    embeddings: Float[Tensor, "N D"],
    labels: Int[Tensor, " N"],
    margins: Float[Tensor, "N N"],
    squared: bool = False,
) -> Float[Tensor, ""]:
    """Average half the violations ``max(0, D_ap - D_an + margins_an)`` over all triplets of the batch.

    Args:
        embeddings: of any length; D is the distance of the unit vectors.
        labels: two embeddings of one label are a positive pair.
        margins: of each anchor (row) against each negative (column).
        squared: whether D is squared.
    """
    distances = pairwise_distances(unit(embeddings))
    distances = distances.square() if squared else distances
    positives, negatives = pairs_of(labels)
    anchors, others = positives.nonzero(as_tuple=True)
    violations = distances[anchors, others][:, None] - distances[anchors] + margins[anchors]
    return mean_or_zero(violations[negatives[anchors]].relu() / 2, embeddings)


class HierarchicalTriplet(Loss):
    """Ask for a larger gap between classes that only meet high up in the class tree.

    Level l of the tree, l = 0..L, joins classes that a chain of steps shorter than ``thresholds[l]`` connects.

    Args:
        task: the facts about the training set.
        margin: beta, added to every gap.
        squared: whether distances in the loss are squared.
        levels: L >= 1.

    Attributes:
        nodes: ``(L + 1, C)`` the node of each class at each level. Before the first epoch there is one node.
        thresholds: ``(L + 1,)`` mean squared distance at which classes join, up to 4.
        spreads: ``(C,)`` mean squared distance between two members of a class.
    """

    nodes: Tensor
    thresholds: Tensor
    spreads: Tensor

    def __init__(self, task: Task, margin: float, squared: bool, levels: int = LEVELS) -> None:
        super().__init__(task)
        self.margin, self.squared = margin, squared
        self.register_buffer("nodes", torch.zeros(levels + 1, task.num_classes, dtype=torch.int64))
        self.register_buffer("thresholds", torch.zeros(levels + 1))
        self.register_buffer("spreads", torch.zeros(task.num_classes))

    def compute(
        self, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"], indices: Int[Tensor, " N"] | None
    ) -> dict[str, Tensor]:
        """Return half the mean violation over all triplets of the batch."""
        gaps = self.joins(labels) - self.spreads[labels][:, None]
        return {"triplets": hierarchical_triplet(embeddings, labels, self.margin + gaps.to(embeddings), self.squared)}

    def joins(self, labels: Int[Tensor, " N"]) -> Float[Tensor, "N N"]:
        """Return the threshold of the lowest level at which the classes of each pair of samples share a node."""
        nodes = self.nodes[:, labels]
        apart = (nodes[:, :, None] != nodes[:, None, :]).sum(dim=0)  # nodes nest: once together, always together
        return self.thresholds[apart]

    def on_epoch_start(self, context: EpochContext) -> None:
        """Grow the tree from the current embeddings of the training set."""
        directions = unit(context.embed().double())
        means, counts = class_means(directions, context.labels, self.task.num_classes)
        inside = spreads(means, counts)
        lowest = inside[counts > 1].mean() if (counts > 1).any() else inside.new_zeros(())
        steps = torch.linspace(0, 1, len(self.thresholds), dtype=inside.dtype, device=inside.device)
        thresholds = lowest + steps * (4 - lowest)
        self.spreads.copy_(inside)
        self.thresholds.copy_(thresholds)
        self.nodes.copy_(tree(means, thresholds))


def tree(means: Float[Tensor, "C D"], thresholds: Float[Tensor, " L"]) -> Int[Tensor, "L C"]:
    """Return the node of each class at each level; the highest level has one node.

    Args:
        means: of the unit vectors of each class.
        thresholds: mean squared distance at which classes join, rising.
    """
    line, gaps = single_linkage(means)
    starts = gaps >= thresholds[:, None]
    starts[:, 0] = False
    starts[-1] = False  # no distance exceeds 4, but rounding may
    return torch.empty_like(starts, dtype=torch.int64).index_copy_(1, line, starts.long().cumsum(dim=1))


@LOSSES.register("htl")
def htl(task: Task, /, *, margin: Finite = 0.1, squared: bool = False) -> HierarchicalTriplet:
    """Ask for larger gaps between classes that lie far apart in a tree of all classes, grown anew each epoch.

    loss = mean over all triplets of max(0, D_ap - D_an + beta + d(y_a, y_n) - s(y_a)) / 2, beta = margin, D the
    distance of unit vectors (squared if asked for). s(c) is the mean squared distance between two members of class c;
    level l of the tree, l = 0..16, joins classes whose members' mean squared distance is below
    t_l = l (4 - t_0) / 16 + t_0, t_0 the mean of s; d(p, q) is the t_l of the lowest level at which p and q are one.
    Before the first epoch, d = s = 0. Batches of similar classes come from the sampler class_neighbors.

    Source: Ge et al., Deep Metric Learning with Hierarchical Triplet Loss, ECCV 2018.
    Interpretation: classes join when a chain of short steps connects them; t_0 leaves out classes of one image.
    Differs: D is not squared although d and s are, as in all descriptions found (squared=true squares it).
    """
    return HierarchicalTriplet(task, margin, squared)
