"""The one forward pass of every softmax and proxy loss; what sets them apart is what fills its slots."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dml_bench.losses.centers import Init, Pooling, gaussian, single
from dml_bench.losses.loss import Loss, Task, check_embeddings
from dml_bench.losses.margins import Margin, none
from dml_bench.losses.numerics import full_precision
from dml_bench.losses.objectives import Objective, softmax
from dml_bench.losses.regularizers import Regularizer
from dml_bench.losses.similarity import Similarity, cosine


class ProxyLoss(Loss):
    """Compare embeddings with learned centers of the classes.

    The order is fixed: similarity, pooling of centers, margin on the target, scale, objective, mean over the batch; the
    regularizer is added.

    Args:
        task: the facts about the training set.
        similarity: ``(N, D), (C, K, D) -> (N, C, K)``.
        centers_per_class: K >= 1.
        pooling: ``(N, C, K) -> (N, C)``.
        margin: ``(N,) -> (N,)`` on the similarity to the own class.
        scale: > 0, multiplies similarities after the margin; the inverse of a temperature.
        learn_scale: whether the scale is a parameter that starts at ``scale``.
        objective: ``(N, C) logits, (N,) labels -> (N,)``.
        regularizer: ``(C, K, D) -> scalar``.
        regularizer_weight: >= 0; at 0 there is no such term.
        init: draws the ``(C, K, D)`` centers from torch's global generator.

    Attributes:
        centers: ``(C, K, D)``, not normalised.
    """

    def __init__(
        self,
        task: Task,
        *,
        similarity: Similarity = cosine,
        centers_per_class: int = 1,
        pooling: Pooling = single,
        margin: Margin = none,
        scale: float = 1.0,
        learn_scale: bool = False,
        objective: Objective = softmax,
        regularizer: Regularizer | None = None,
        regularizer_weight: float = 0.0,
        init: Init = gaussian,
    ) -> None:
        super().__init__(task)
        self.centers = nn.Parameter(init(task.num_classes, centers_per_class, task.embedding_dim))
        self.scale = nn.Parameter(torch.tensor(float(scale))) if learn_scale else scale
        self.similarity, self.pooling, self.margin, self.objective = similarity, pooling, margin, objective
        self.regularizer, self.regularizer_weight = regularizer, regularizer_weight

    def compute(
        self, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"], indices: Int[Tensor, " N"] | None
    ) -> dict[str, Tensor]:
        """Return the mean objective and, if there is one, the weighted regularizer."""
        centers = self._centers_as(embeddings)
        scores = self._scores(embeddings, centers)
        target = scores.gather(1, labels[:, None])
        margined = scores.scatter(1, labels[:, None], self.margin(target.squeeze(1))[:, None])
        terms = {"objective": self.objective(self.scale * margined, labels).mean()}
        if self.regularizer is not None and self.regularizer_weight > 0:
            terms["regularizer"] = self.regularizer_weight * self.regularizer(centers)
        return terms

    def class_scores(self, embeddings: Tensor) -> Tensor:
        """Return the ``(N, C)`` logits without margin; the largest names the predicted class.

        Raises:
            DataError: when ``embeddings`` are not finite floating point of shape ``(N, D)``, N >= 1.
        """
        check_embeddings(embeddings, self.task.embedding_dim)
        with full_precision(embeddings) as wide:
            return self.scale * self._scores(wide, self._centers_as(wide))

    def _scores(self, embeddings: Float[Tensor, "N D"], centers: Float[Tensor, "C K D"]) -> Float[Tensor, "N C"]:
        return self.pooling(self.similarity(embeddings.to(centers.dtype), centers))

    def _centers_as(self, embeddings: Float[Tensor, "N D"]) -> Float[Tensor, "C K D"]:
        """Return the centers in the wider of their own and the embeddings' precision."""
        return self.centers.to(torch.promote_types(self.centers.dtype, embeddings.dtype))
