"""Unequal training: frequent classes are classified against label noise, rare ones only spread out."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from dml_bench.losses.centroids import CenterDispersed
from dml_bench.losses.loss import Task
from dml_bench.losses.proxy import ProxyLoss
from dml_bench.losses.weighting import class_counts


class UnequalTraining(ProxyLoss):
    """Apply a proxy loss to the samples of frequent classes and ``CenterDispersed`` to those of rare ones.

    A class is frequent if it has at least the mean number of images per class.

    Args:
        task: the facts about the training set, ``class_counts`` among them.
        weight: >= 0, of the dispersion.
        slots: the slots of the proxy loss.

    Attributes:
        frequent: ``(C,)``, which classes are.
    """

    frequent: Tensor

    def __init__(self, task: Task, weight: float, **slots: object) -> None:
        super().__init__(task, **slots)  # type: ignore[arg-type]
        counts = class_counts(task, "unequal_training")
        self.register_buffer("frequent", counts >= counts.mean())
        self.dispersed = CenterDispersed(task, weight)

    def compute(
        self, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"], indices: Int[Tensor, " N"] | None
    ) -> dict[str, Tensor]:
        """Return the terms of both; where a batch has no sample of a kind, its term is 0."""
        head, tail = self.frequent[labels], ~self.frequent[labels]
        nothing = embeddings[:0].sum() + self.centers[:0].sum()  # 0, with a gradient of 0 for both
        terms = {"objective": nothing, "dispersion": nothing}
        if head.any():
            terms |= super().compute(embeddings[head], labels[head], None if indices is None else indices[head])
        if tail.any():
            terms |= self.dispersed.compute(embeddings[tail], labels[tail], None)
        return terms
