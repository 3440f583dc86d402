"""The margin loss: a border between near and far, and negatives drawn evenly over their distances."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dml_bench.losses.loss import LOSSES, Loss, Task
from dml_bench.losses.miners import by_distance, every, pairs_of
from dml_bench.losses.numerics import mean_or_zero, pairwise_distances, unit
from dml_bench.registry import NonNegative, Positive


class MarginLoss(Loss):
    """Keep positives nearer than a border by the margin, and negatives farther.

    Args:
        task: the facts about the training set.
        margin: >= 0.
        beta: > 0, the border, or where it starts.
        learn_beta: False, or whether one border is learned for all anchors (``global``) or one per class (``class``).
        beta_regularizer: >= 0, weighs the learned border.
        draw: whether to draw one negative per positive pair instead of taking all.

    Attributes:
        beta: the border: a number, or a parameter, scalar or ``(C,)``.
        draws: the seed of the drawing and the number of steps so far. A loop of your own calls ``on_step`` after each
            step; without it, the same random numbers choose among the negatives of every batch.
    """

    draws: Tensor

    def __init__(
        self,
        task: Task,
        *,
        margin: float,
        beta: float,
        learn_beta: Literal[False, "global", "class"],
        beta_regularizer: float,
        draw: bool,
    ) -> None:
        super().__init__(task)
        self.margin, self.beta_regularizer, self.draw = margin, beta_regularizer, draw
        shape = (task.num_classes,) if learn_beta == "class" else ()
        self.beta = nn.Parameter(torch.full(shape, float(beta))) if learn_beta else beta
        self.register_buffer("draws", torch.stack([torch.randint(2**31, ()), torch.tensor(0)]))

    def on_step(self) -> None:
        """Draw anew in the next step."""
        self.draws[1] += 1

    def compute(
        self, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"], indices: Int[Tensor, " N"] | None
    ) -> dict[str, Tensor]:
        """Return the costs over the number of those that are not 0, and the weighted border if it is learned."""
        directions = unit(embeddings)
        distances = pairwise_distances(directions)
        with torch.no_grad():
            anchors, positives, negatives = self._triplets(directions, distances, labels)
        border = torch.as_tensor(self.beta, dtype=embeddings.dtype, device=embeddings.device).expand(
            self.task.num_classes
        )
        border = border[labels[anchors]]
        near = (distances[anchors, positives] - border + self.margin).relu()
        far = (border - distances[anchors, negatives] + self.margin).relu()
        active = torch.cat([near, far])
        active = active[active > 0]
        terms = {"pairs": mean_or_zero(active, embeddings)}
        if isinstance(self.beta, nn.Parameter) and self.beta_regularizer > 0:
            share = border.sum() / max(len(active), 1) if self.beta.ndim else self.beta.to(embeddings.dtype)
            terms["beta"] = self.beta_regularizer * share
        return terms

    def _triplets(
        self, directions: Float[Tensor, "N D"], distances: Float[Tensor, "N N"], labels: Int[Tensor, " N"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        if not self.draw:
            return every(distances, *pairs_of(labels))
        seed, step = self.draws.tolist()
        generator = torch.Generator().manual_seed(seed + step)
        # Sorted along a random direction, the batch meets the same random numbers in whatever order it came.
        axis = torch.randn(self.task.embedding_dim, generator=generator, dtype=torch.float64).to(directions.device)
        order = (directions.double() @ axis).argsort()
        chosen = by_distance(
            distances[order][:, order], *pairs_of(labels[order]), dim=self.task.embedding_dim, generator=generator
        )
        anchors, positives, negatives = (order[positions] for positions in chosen)
        return anchors, positives, negatives


@LOSSES.register("margin_loss")
def margin_loss(
    task: Task,
    /,
    *,
    margin: NonNegative = 0.2,
    beta: Positive = 1.2,
    learn_beta: Literal[False, "global", "class"] = False,
    beta_regularizer: NonNegative = 0.0,
    sampling: Literal["distance", "all"] = "distance",
) -> Loss:
    """Keep positives nearer than a border and negatives farther, with negatives drawn evenly over their distances.

    loss = sum over triplets of ( max(0, D_ap - beta + m) + max(0, beta - D_an + m) ) / number of these terms that are
    not 0, + nu beta if beta is learned (nu = beta_regularizer), D = ||x_a - x_b|| of unit vectors. With one beta per
    class, the last term is nu times the sum over the triplets of the beta of the anchor's class, over that same number.
    sampling=distance: for each (a, p) one n, drawn with P(n) proportional to 1 / q(max(D_an, 0.5)), never with
    D_an >= 1.4; q(d) = d^(D-2) (1 - d^2/4)^((D-3)/2). sampling=all: every triplet.

    Source: Wu et al., Sampling Matters in Deep Embedding Learning, ICCV 2017, section 4; constants and divisor from
        the authors' code.
    Differs: beta is learned per class at most, not per image. The draw depends on the loss's state and the batch alone.
        The miner of pytorch-metric-learning draws as many negatives per anchor as its class has images in the batch.
    """
    return MarginLoss(
        task,
        margin=margin,
        beta=beta,
        learn_beta=learn_beta,
        beta_regularizer=beta_regularizer,
        draw=sampling == "distance",
    )
