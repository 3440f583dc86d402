"""Proxy-Anchor: proxies take the place of anchors, so the samples of a batch weigh against each other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from dml_bench.losses.centers import he_normal_over_classes
from dml_bench.losses.loss import Loss, Task, check_embeddings, check_tensor
from dml_bench.losses.memory import check_memory
from dml_bench.losses.numerics import MASKED, full_precision
from dml_bench.losses.similarity import cosine


class ProxyAnchor(Loss):
    """Pull the samples of its class towards each proxy and push the others away, the hardest ones most.

    Args:
        task: the facts about the training set.
        margin: on the cosine, either way.
        scale: > 0, how much the hardest samples dominate.

    Attributes:
        centers: ``(C, 1, D)``, not normalised.
    """

    takes_pixels = True

    def __init__(self, task: Task, margin: float, scale: float) -> None:
        super().__init__(task)
        self.centers = nn.Parameter(he_normal_over_classes(task.num_classes, 1, task.embedding_dim))
        self.margin, self.scale = margin, scale

    def compute(
        self, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"], indices: Int[Tensor, " N"] | None
    ) -> dict[str, Tensor]:
        """Return the mean over classes in the batch, and the mean over all classes."""
        check_memory(len(embeddings), (self.centers,))
        logits = self._logits(embeddings)
        num_classes, column = logits.shape[1], labels[:, None]
        present, inverse = torch.unique(labels, return_inverse=True)
        pulls = self.scale * self.margin - logits.gather(1, column).squeeze(1)
        # Each sample pulls one proxy only: a table of (present classes, N) holds all pulls.
        table = pulls.new_full((len(present), len(labels)), MASKED)
        table = table.index_put((inverse, torch.arange(len(labels), device=labels.device)), pulls)
        pushes = (logits + self.scale * self.margin).scatter(1, column, MASKED)
        # The published vectors have torch's softplus, which is the identity beyond 20, up to 2e-9 off.
        return {
            "positives": F.softplus(table.logsumexp(dim=1)).mean(),
            "negatives": F.softplus(pushes.logsumexp(dim=0)).sum() / num_classes,
        }

    def class_scores(self, embeddings: Tensor) -> Tensor:
        """Return the scaled cosines, ``(N, C)``; pixels ``(N, D, H, W)`` give ``(N, C, H, W)``.

        Raises:
            DataError: when ``embeddings`` are not finite floating point of shape ``(N, D)``, N >= 1.
        """
        check_tensor("embeddings", embeddings)
        if embeddings.ndim == 4:
            rows = self.class_scores(embeddings.movedim(1, -1).flatten(0, 2))
            return rows.reshape(len(embeddings), *embeddings.shape[2:], -1).movedim(-1, 1)
        check_embeddings(embeddings, self.task.embedding_dim)
        with full_precision(embeddings) as wide:
            return self._logits(wide)

    def _logits(self, embeddings: Float[Tensor, "N D"]) -> Float[Tensor, "N C"]:
        centers = self.centers.to(torch.promote_types(self.centers.dtype, embeddings.dtype))
        return self.scale * cosine(embeddings.to(centers.dtype), centers).squeeze(2)
