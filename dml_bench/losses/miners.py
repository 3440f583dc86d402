"""Which pairs and triplets of a batch count.

A triplet miner maps ``(N, N)`` distances and masks of positive and negative pairs to the distances from anchor to
positive and from anchor to negative, ``(T,)`` each, of the T triplets it chooses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Triplets = tuple[Tensor, Tensor]
Miner = Callable[[Tensor, Tensor, Tensor], Triplets]


def pairs_of(labels: Int[Tensor, " N"]) -> tuple[Bool[Tensor, "N N"], Bool[Tensor, "N N"]]:
    """Return which ordered pairs have one label (no sample with itself), and which have two."""
    same = labels[:, None] == labels
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return same & ~itself, ~same


def violating(
    similarities: Float[Tensor, "N N"],
    positives: Bool[Tensor, "N N"],
    negatives: Bool[Tensor, "N N"],
    epsilon: float,
) -> tuple[Bool[Tensor, "N N"], Bool[Tensor, "N N"]]:
    """Keep the pairs that are not clearly in order for their anchor.

    Those are positives less similar than the most similar negative plus epsilon, and negatives more similar than the
    least similar positive minus epsilon; an anchor that lacks either keeps nothing.

    Source: Wang et al., Multi-Similarity Loss, CVPR 2019, section 4.
    """
    weakest_positive = similarities.masked_fill(~positives, torch.inf).amin(dim=1, keepdim=True)
    strongest_negative = similarities.masked_fill(~negatives, -torch.inf).amax(dim=1, keepdim=True)
    return (
        positives & (similarities < strongest_negative + epsilon),
        negatives & (similarities > weakest_positive - epsilon),
    )


def hardest(
    distances: Float[Tensor, "N N"], positives: Bool[Tensor, "N N"], negatives: Bool[Tensor, "N N"]
) -> Triplets:
    """Choose for each anchor its farthest positive and nearest negative; skip anchors that lack either."""
    complete = positives.any(dim=1) & negatives.any(dim=1)
    return _farthest(distances, positives)[complete], _nearest(distances, negatives)[complete]


def beyond_else_farthest(
    distances: Float[Tensor, "N N"], positives: Bool[Tensor, "N N"], negatives: Bool[Tensor, "N N"]
) -> Triplets:
    """Choose for each positive pair the nearest negative with D_an > D_ap, where there is none the farthest negative.

    Source: the reading of FaceNet in TensorFlow Addons.
    """
    anchors, others = positives.nonzero(as_tuple=True)
    to_positive, to_all, negative = distances[anchors, others], distances[anchors], negatives[anchors]
    beyond = negative & (to_all > to_positive[:, None])
    chosen = torch.where(beyond.any(dim=1), _nearest(to_all, beyond), _farthest(to_all, negative))
    found = negative.any(dim=1)
    return to_positive[found], chosen[found]


@dataclass(frozen=True)
class SemiHard:
    """Choose triplets with ``D_ap < D_an <= D_ap + margin``.

    Args:
        margin: >= 0.
        nearest: whether to keep only the nearest such negative of each positive pair.

    Source: Schroff et al., FaceNet, CVPR 2015, section 3.2.
    """

    margin: float
    nearest: bool

    def __call__(
        self, distances: Float[Tensor, "N N"], positives: Bool[Tensor, "N N"], negatives: Bool[Tensor, "N N"]
    ) -> Triplets:
        """Choose; positive pairs without such a negative are skipped."""
        anchors, others = positives.nonzero(as_tuple=True)
        to_positive, to_all = distances[anchors, others], distances[anchors]
        beyond = to_all > to_positive[:, None]
        semihard = negatives[anchors] & beyond & (to_all <= to_positive[:, None] + self.margin)
        if self.nearest:
            found = semihard.any(dim=1)
            return to_positive[found], _nearest(to_all, semihard)[found]
        return to_positive[:, None].expand_as(to_all)[semihard], to_all[semihard]


def _nearest(distances: Float[Tensor, "M N"], mask: Bool[Tensor, "M N"]) -> Float[Tensor, " M"]:
    """Return each row's smallest distance where ``mask`` is true; infinity where it never is."""
    return distances.masked_fill(~mask, torch.inf).min(dim=1).values


def _farthest(distances: Float[Tensor, "M N"], mask: Bool[Tensor, "M N"]) -> Float[Tensor, " M"]:
    """Return each row's largest distance where ``mask`` is true; minus infinity where it never is."""
    return distances.masked_fill(~mask, -torch.inf).max(dim=1).values
