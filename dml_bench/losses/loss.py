"""What a loss is here, the registry of the known ones, and the check of a batch, all written once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dml_bench.errors import DataError, OptionError, Problem
from dml_bench.losses.numerics import full_precision
from dml_bench.registry import Registry


@dataclass(frozen=True, eq=False)
class Task:
    """What a loss must know of the training set.

    Args:
        num_classes: C >= 1; labels lie in [0, C).
        embedding_dim: D >= 1.
        class_counts: ``(C,)`` images per class, for the losses that weigh classes by them.

    Raises:
        OptionError: when a number is below 1 or no integer, or ``class_counts`` does not have one entry per class.
    """

    num_classes: int
    embedding_dim: int
    class_counts: Tensor | None = None

    def __post_init__(self) -> None:
        sizes: dict[str, Any] = {"num_classes": self.num_classes, "embedding_dim": self.embedding_dim}
        problems = [
            Problem((name,), f"must be an integer >= 1, not {size!r}")
            for name, size in sizes.items()
            if not isinstance(size, Integral) or isinstance(size, bool) or size < 1
        ]
        if not problems and self.class_counts is not None and self.class_counts.shape != (self.num_classes,):
            shape = tuple(self.class_counts.shape)
            problems = [Problem(("class_counts",), f"must have shape ({self.num_classes},), not {shape}")]
        if problems:
            raise OptionError(problems)


class Loss(nn.Module, ABC):
    """A scalar for a batch of raw embeddings; the loss itself normalises what its formula says.

    It computes in float32 or wider whatever the precision of the embeddings, autocast or not.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def forward(self, embeddings: Tensor, labels: Tensor, indices: Tensor | None = None) -> Tensor:
        """Return the loss of a batch, a scalar: the sum of its terms.

        Args:
            embeddings: ``(N, D)`` floating point, of any length, N >= 1.
            labels: ``(N,)`` integers in [0, C).
            indices: ``(N,)`` positions in the training set, for the losses that remember samples.

        Raises:
            DataError: when shapes, types or ranges differ from these, or an embedding is not finite.
        """
        return torch.stack(list(self.terms(embeddings, labels, indices).values())).sum()

    def terms(self, embeddings: Tensor, labels: Tensor, indices: Tensor | None = None) -> dict[str, Tensor]:
        """Return the named scalars that add up to the loss; arguments and errors are those of ``forward``."""
        check_embeddings(embeddings, self.task.embedding_dim)
        check_labels(labels, len(embeddings), self.task.num_classes)
        if indices is not None:
            check_indices(indices, len(embeddings))
        with full_precision(embeddings) as wide:
            return self.compute(wide, labels.long(), indices)

    @abstractmethod
    def compute(
        self, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"], indices: Int[Tensor, " N"] | None
    ) -> dict[str, Tensor]:
        """Return the named terms of a checked batch; the one method a new loss has to write."""

    def param_groups(self, base_lr: float) -> list[dict[str, Any]]:
        """Return one optimizer group per learned tensor: ``name``, ``params``, ``lr`` and ``weight_decay`` (0)."""
        return [
            {"name": name, "params": [parameter], "lr": base_lr, "weight_decay": 0.0}
            for name, parameter in self.named_parameters()
        ]


LOSSES: Registry[Loss] = Registry("losses", [f"dml_bench.losses.{module}" for module in ("named", "tuples")])
"""Factories ``(task: Task, /, *, ...) -> Loss``."""


def build(
    key: str, num_classes: int, embedding_dim: int, *, class_counts: Tensor | None = None, **options: Any
) -> Loss:
    """Build the loss registered as ``key``; its centers are drawn from torch's global generator.

    Args:
        key: a registered name, such as ``softtriple``.
        num_classes: C >= 1; labels lie in [0, C).
        embedding_dim: D >= 1.
        class_counts: ``(C,)`` images per class, for the losses that weigh classes by them.
        options: options of that loss; ``dml-bench info losses KEY`` lists them.

    Raises:
        OptionError: for an unknown name, wrong options, or a size below 1.

    Example:
        >>> loss = build("softtriple", num_classes=4, embedding_dim=8, centers_per_class=2)
        >>> loss.centers.shape
        torch.Size([4, 2, 8])
        >>> loss(torch.randn(6, 8), torch.tensor([0, 0, 1, 1, 2, 3])).shape
        torch.Size([])
    """
    return LOSSES.build(key, Task(num_classes, embedding_dim, class_counts), **options)


def check_embeddings(embeddings: Tensor, dim: int) -> None:
    """Refuse what is not a non-empty, finite, floating-point ``(N, dim)`` tensor with a DataError."""
    if not embeddings.is_floating_point():
        raise DataError(f"embeddings must be floating point, not {embeddings.dtype}")
    if embeddings.ndim != 2 or embeddings.shape[1] != dim or len(embeddings) == 0:
        raise DataError(f"embeddings must have shape (N, {dim}) with N >= 1, not {tuple(embeddings.shape)}")
    finite = embeddings.detach().isfinite().all(dim=1)
    if not finite.all():
        rows = (~finite).nonzero()[:, 0].tolist()
        raise DataError(f"embeddings must be finite: {len(rows)} of {len(finite)} rows are not, the first is {rows[0]}")


def check_labels(labels: Tensor, size: int, num_classes: int) -> None:
    """Refuse labels that are not ``(size,)`` integers in [0, num_classes) with a DataError."""
    _check_integers("labels", labels, size)
    low, high = labels.min().item(), labels.max().item()
    if low < 0 or high >= num_classes:
        raise DataError(f"labels must lie in [0, {num_classes}), not {low if low < 0 else high}")


def check_indices(indices: Tensor, size: int) -> None:
    """Refuse positions that are not ``(size,)`` integers >= 0 with a DataError."""
    _check_integers("indices", indices, size)
    if indices.min() < 0:
        raise DataError(f"indices must be >= 0, not {indices.min().item()}")


def _check_integers(name: str, values: Tensor, size: int) -> None:
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise DataError(f"{name} must be integers, not {values.dtype}")
    if values.shape != (size,):
        raise DataError(f"{name} must have shape ({size},), one per embedding, not {tuple(values.shape)}")
