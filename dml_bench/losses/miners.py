"""Which pairs and triplets of a batch count.

A triplet miner maps ``(N, N)`` distances and masks of positive and negative pairs to the triplets it chooses: the
positions in the batch of T anchors, T positives and T negatives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Triplets = tuple[Tensor, Tensor, Tensor]
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


def every(distances: Float[Tensor, "N N"], positives: Bool[Tensor, "N N"], negatives: Bool[Tensor, "N N"]) -> Triplets:
    """Choose every triplet: each anchor with each of its positives and each of its negatives."""
    anchors, others = positives.nonzero(as_tuple=True)
    pairs, chosen = negatives[anchors].nonzero(as_tuple=True)
    return anchors[pairs], others[pairs], chosen


def hardest(
    distances: Float[Tensor, "N N"], positives: Bool[Tensor, "N N"], negatives: Bool[Tensor, "N N"]
) -> Triplets:
    """Choose for each anchor its farthest positive and nearest negative; skip anchors that lack either."""
    (anchors,) = (positives.any(dim=1) & negatives.any(dim=1)).nonzero(as_tuple=True)
    return anchors, _farthest(distances, positives)[anchors], _nearest(distances, negatives)[anchors]


def beyond_else_farthest(
    distances: Float[Tensor, "N N"], positives: Bool[Tensor, "N N"], negatives: Bool[Tensor, "N N"]
) -> Triplets:
    """Choose for each positive pair the nearest negative with D_an > D_ap, where there is none the farthest negative.

    Source: the reading of FaceNet in TensorFlow Addons.
    """
    anchors, others = (positives & negatives.any(dim=1, keepdim=True)).nonzero(as_tuple=True)
    to_all, negative = distances[anchors], negatives[anchors]
    beyond = negative & (to_all > distances[anchors, others][:, None])
    farthest = _farthest(distances, negatives)[anchors]
    return anchors, others, torch.where(beyond.any(dim=1), _nearest(to_all, beyond), farthest)


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
        to_all, to_positive = distances[anchors], distances[anchors, others][:, None]
        semihard = negatives[anchors] & (to_all > to_positive) & (to_all <= to_positive + self.margin)
        if self.nearest:
            (found,) = semihard.any(dim=1).nonzero(as_tuple=True)
            return anchors[found], others[found], _nearest(to_all[found], semihard[found])
        pairs, chosen = semihard.nonzero(as_tuple=True)
        return anchors[pairs], others[pairs], chosen


def by_distance(
    distances: Float[Tensor, "N N"],
    positives: Bool[Tensor, "N N"],
    negatives: Bool[Tensor, "N N"],
    *,
    dim: int,
    generator: torch.Generator,
) -> Triplets:
    """Draw one negative for each positive pair, so that all distances from the anchor are about equally likely.

    On the unit sphere distances have the density q(d) = d^(D-2) (1 - d^2/4)^((D-3)/2); the chance of a
    negative is proportional to 1 / q(max(d, 0.5)), and 0 for d >= 1.4. Anchors without such a negative are skipped.

    Args:
        distances: Euclidean, between unit vectors.
        positives: which pairs have one label.
        negatives: which pairs have two labels.
        dim: D >= 1.
        generator: on the CPU; one number is drawn per positive pair.

    Source: Wu et al., Sampling Matters in Deep Embedding Learning, ICCV 2017, section 4; 0.5 and 1.4 from the authors'
        code.
    """
    likely = sampling_weights(distances, negatives, dim)
    anchors, others = (positives & (likely > 0).any(dim=1, keepdim=True)).nonzero(as_tuple=True)
    # The inverse of the distribution function, unlike torch.multinomial, draws the same in every precision.
    cumulated = likely.cumsum(dim=1)[anchors]
    draws = torch.rand(len(anchors), 1, generator=generator, dtype=torch.float64).to(distances.device)
    drawn = torch.searchsorted(cumulated, draws * cumulated[:, -1:], right=True).squeeze(1)
    last = (likely > 0).long().cumsum(dim=1).argmax(dim=1)[anchors]
    return anchors, others, drawn.minimum(last)  # rounding may carry a draw past the last eligible negative


def sampling_weights(distances: Float[Tensor, "N N"], negatives: Bool[Tensor, "N N"], dim: int) -> Float[Tensor, "N N"]:
    """Return in float64 how likely each negative is to be drawn by ``by_distance``; rows add up to 1, or 0."""
    d = distances.double().clamp(min=0.5)
    logarithms = (2 - dim) * d.log() - (dim - 3) / 2 * (1 - d.square() / 4).log()
    return logarithms.masked_fill(~negatives | (d >= 1.4), -torch.inf).softmax(dim=1).nan_to_num(0.0)


def _nearest(distances: Float[Tensor, "M N"], mask: Bool[Tensor, "M N"]) -> Int[Tensor, " M"]:
    """Return the position of each row's smallest distance where ``mask`` is true; 0 where it never is."""
    return distances.masked_fill(~mask, torch.inf).argmin(dim=1)


def _farthest(distances: Float[Tensor, "M N"], mask: Bool[Tensor, "M N"]) -> Int[Tensor, " M"]:
    """Return the position of each row's largest distance where ``mask`` is true; 0 where it never is."""
    return distances.masked_fill(~mask, -torch.inf).argmax(dim=1)
