"""Quintuplet loss (large margin local embedding): order the clusters inside a class as well as the classes."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from dml_bench.epoch import EpochContext
from dml_bench.losses.loss import LOSSES, Loss, Task, remembered
from dml_bench.losses.miners import pairs_of
from dml_bench.losses.numerics import pairwise_distances, unit
from dml_bench.registry import NonNegative
from dml_bench.search.clusters import kmeans

MARGINS = [0.1, 0.1, 0.1]
ABSENT = -1
"""Stands in a tuple for a sample that the batch does not hold."""


def quintuplet_costs(
    points: Float[Tensor, "n D"], tuples: Int[Tensor, "T 5"], margins: list[float]
) -> Float[Tensor, "T 3"]:
    """Return the three violations of each tuple (a, p+, p-, p--, n), 0 where one of its samples is absent.

    ``max(0, g1 + D(a, p+) - D(a, p-))``, ``max(0, g2 + D(a, p-) - D(a, p--))``, ``max(0, g3 + D(a, p--) - D(a, n))``.

    Args:
        points: D is their squared Euclidean distance; they are not normalised here.
        tuples: rows of ``points``, or -1 for an absent sample.
        margins: g1, g2, g3.
    """
    anchors, others = tuples[:, 0], tuples[:, 1:]
    distances = (points[anchors][:, None] - points[others.clamp(min=0)]).square().sum(dim=2)
    violations = distances[:, :3] - distances[:, 1:] + distances.new_tensor(margins)
    present = others != ABSENT
    return violations.relu() * (present[:, :3] & present[:, 1:])


def choose(
    distances: Float[Tensor, "N N"], labels: Int[Tensor, " N"], clusters: Int[Tensor, " N"]
) -> Int[Tensor, "T 5"]:
    """Choose a tuple for each anchor that has a positive and a negative in the batch.

    p+: the farthest of the anchor's own cluster; p-: the nearest of another cluster of its class; p--: the farthest of
    its class; n: the nearest of another class. What does not exist is -1.
    """
    positives, negatives = pairs_of(labels)
    near = positives & (clusters[:, None] == clusters)
    columns = [
        torch.arange(len(labels), device=labels.device),
        _pick(distances, near, farthest=True),
        _pick(distances, positives & ~near, farthest=False),
        _pick(distances, positives, farthest=True),
        _pick(distances, negatives, farthest=False),
    ]
    return torch.stack(columns, dim=1)[positives.any(dim=1) & negatives.any(dim=1)]


def _pick(distances: Float[Tensor, "N N"], mask: Tensor, *, farthest: bool) -> Int[Tensor, " N"]:
    masked = distances.masked_fill(~mask, -torch.inf if farthest else torch.inf)
    chosen = masked.argmax(dim=1) if farthest else masked.argmin(dim=1)
    return chosen.masked_fill(~mask.any(dim=1), ABSENT)


class Quintuplet(Loss):
    """Compare distances in tuples chosen from the batch, with the clusters that each class falls into.

    Args:
        task: the facts about the training set.
        margins: g1, g2, g3, squared distances of unit vectors.

    Attributes:
        clusters: ``(n,)`` the cluster of each training image within its class; empty before the first epoch.
    """

    clusters: Tensor
    sized_by_training_set = ("clusters",)

    def __init__(self, task: Task, margins: list[float]) -> None:
        super().__init__(task)
        self.margins = margins
        self.register_buffer("clusters", torch.zeros(0, dtype=torch.int64))

    def compute(
        self, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"], indices: Int[Tensor, " N"] | None
    ) -> dict[str, Tensor]:
        """Return the means of the three violations over the anchors."""
        directions = unit(embeddings)
        clusters = remembered(self.clusters, indices)
        one = torch.zeros_like(labels)
        tuples = choose(pairwise_distances(directions.detach()), labels, one if clusters is None else clusters)
        costs = quintuplet_costs(directions, tuples, self.margins).sum(dim=0) / max(len(tuples), 1)
        costs = costs + (0 * embeddings).sum()  # with no tuple, backward still has somewhere to go
        return dict(zip(("clusters", "class", "others"), costs.unbind(), strict=True))

    def on_epoch_start(self, context: EpochContext) -> None:
        """Cluster each class by the current embeddings of its training images."""
        directions = unit(context.embed())
        seed = int(torch.randint(2**31, (), generator=context.generator))
        self.clusters = torch.zeros_like(context.labels)
        sizes = torch.bincount(context.labels).tolist()
        for members in torch.split(context.labels.argsort(stable=True), sizes):
            if (clusters := cluster_count(len(members))) > 1:
                found = kmeans(directions[members].cpu().numpy(), clusters, seed)
                self.clusters[members] = torch.from_numpy(found).to(members)


def cluster_count(images: int) -> int:
    """Return how many clusters a class of so many images is cut into: ``sqrt(images / 2)``, rounded, at least 1."""
    return max(1, round(math.sqrt(images / 2)))


@LOSSES.register("quintuplet")
def quintuplet(
    task: Task, /, *, margins: Annotated[list[NonNegative], Field(min_length=3, max_length=3)] = MARGINS
) -> Quintuplet:
    """Keep the own cluster nearer than the rest of the class, and the class nearer than other classes.

    loss = mean over anchors a of max(0, g1 + D(a, p+) - D(a, p-)) + max(0, g2 + D(a, p-) - D(a, p--)) +
    max(0, g3 + D(a, p--) - D(a, n)), D the squared distance of unit vectors, (g1, g2, g3) = margins. p+ is the farthest
    of a's cluster, p- the nearest of another cluster of its class, p-- the farthest of its class and n the nearest of
    another class, all in the batch. A part whose samples the batch does not hold is left out; anchors need a positive
    and a negative. Clusters come from k-means inside each class when an epoch begins; before the first, and without
    indices, each class is one cluster and only the last part counts.

    Source: Huang et al., Learning Deep Representation for Imbalanced Classification (LMLE), CVPR 2016.
    Interpretation: margins of 0.1; tuples are chosen in the batch; a class of n images has sqrt(n / 2) clusters,
        rounded.
    Differs: the clusters are refreshed each epoch, not every few thousand steps.
    """
    return Quintuplet(task, margins)
