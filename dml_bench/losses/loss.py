"""What a loss is here, the registry of the known ones, and the check of a batch, all written once."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dml_bench.epoch import EpochContext
from dml_bench.errors import DataError, OptionError, Problem
from dml_bench.losses.dense import flatten
from dml_bench.losses.numerics import full_precision
from dml_bench.registry import Registry


@dataclass(frozen=True, eq=False)
class Task:
    """What a loss must know of the training set.

    Args:
        num_classes: C >= 1; labels lie in [0, C).
        embedding_dim: D >= 1.
        class_counts: ``(C,)`` images per class, for the losses that weigh classes by them.
        ignore_index: label of samples or pixels to leave out, for the losses that take pixels (``Loss.takes_pixels``).

    Raises:
        OptionError: when a number is below 1 or no integer, or ``class_counts`` does not have one entry per class.
    """

    num_classes: int
    embedding_dim: int
    class_counts: Tensor | None = None
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        sizes: dict[str, Any] = {"num_classes": self.num_classes, "embedding_dim": self.embedding_dim}
        problems = [
            Problem((name,), f"must be an integer >= 1, not {size!r}")
            for name, size in sizes.items()
            if not isinstance(size, Integral) or isinstance(size, bool) or size < 1
        ]
        if not problems and self.class_counts is not None:
            problems = _count_problems(self.class_counts, self.num_classes)
        mark = self.ignore_index
        if mark is not None and (not isinstance(mark, Integral) or isinstance(mark, bool)):
            problems.append(Problem(("ignore_index",), f"must be an integer, not {mark!r}"))
        if problems:
            raise OptionError(problems)


def _count_problems(counts: Tensor, num_classes: int) -> list[Problem]:
    if counts.shape != (num_classes,):
        return [Problem(("class_counts",), f"must have shape ({num_classes},), not {tuple(counts.shape)}")]
    if not (counts.isfinite() & (counts >= 0)).all():
        return [Problem(("class_counts",), "must be numbers of images, 0 or more")]
    return []


class Loss(nn.Module, ABC):
    """A scalar for a batch of raw embeddings; the loss itself normalises what its formula says.

    It computes in float32 or wider whatever the precision of the embeddings, autocast or not.

    A loss that changes while training overrides ``on_step`` or ``on_epoch_start`` and keeps what it learned in buffers,
    so that it is saved and loaded with the rest. Buffers whose shape depends on the training set start empty and are
    named in ``sized_by_training_set``.
    """

    takes_pixels: bool = False
    """Whether samples are compared with classes one by one, so that pixels can be samples."""
    needs_dropout: bool = False
    """Whether it asks the network for passes with dropout, which has to have some."""
    sized_by_training_set: tuple[str, ...] = ()
    sparse_parameters: tuple[str, ...] = ()
    """Parameters whose gradient is sparse, for an optimizer that steps only the rows that have one."""

    def __init__(self, task: Task, /) -> None:
        super().__init__()
        self.task = task

    def forward(
        self, embeddings: Tensor, labels: Tensor, indices: Tensor | None = None, *, ignore_index: int | None = None
    ) -> Tensor:
        """Return the loss of a batch, a scalar: the sum of its terms.

        Args:
            embeddings: ``(N, D)`` floating point, of any length, N >= 1; a loss that ``takes_pixels`` has
                ``(N, D, H, W)`` as well.
            labels: ``(N,)`` integers in [0, C), or ``(N, H, W)``.
            indices: ``(N,)`` positions in the training set, for the losses that remember samples.
            ignore_index: label of what to leave out, if the loss ``takes_pixels``; by default the task's, then 255 for
                pixels if there are no more than 255 classes. Where nothing is left the loss is 0.

        Raises:
            DataError: when shapes, types or ranges differ from these, or an embedding is not finite.
        """
        pixels = {} if ignore_index is None else {"ignore_index": ignore_index}
        return reduce(torch.add, self.terms(embeddings, labels, indices, **pixels).values())

    def terms(
        self, embeddings: Tensor, labels: Tensor, indices: Tensor | None = None, *, ignore_index: int | None = None
    ) -> dict[str, Tensor]:
        """Return the named scalars that add up to the loss; arguments and errors are those of ``forward``."""
        check_tensor("embeddings", embeddings)
        check_tensor("labels", labels)
        if indices is not None:
            check_tensor("indices", indices)
        if self.takes_pixels:
            mark = self.task.ignore_index if ignore_index is None else ignore_index
            given = embeddings.numel()
            embeddings, labels, indices = flatten(embeddings, labels, indices, mark, self.task.num_classes)
            if given and not embeddings.numel():
                return {"objective": embeddings.sum()}  # 0, which backward can start from
        check_embeddings(embeddings, self.task.embedding_dim)
        size = embeddings.shape[0]
        check_labels(labels, size, self.task.num_classes)
        if indices is not None:
            check_indices(indices, size)
        with full_precision(embeddings) as wide:
            return self.compute(wide, labels.long(), indices)

    @abstractmethod
    def compute(
        self, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"], indices: Int[Tensor, " N"] | None
    ) -> dict[str, Tensor]:
        """Return the named terms of a checked batch; the one method a new loss has to write."""

    def on_step(self) -> None:
        """Hear from the trainer that one optimizer step is done."""

    def on_epoch_start(self, context: EpochContext) -> None:
        """Hear from the trainer that an epoch begins, before its first batch is drawn; runs without gradients."""

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        for name in self.sized_by_training_set:
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name], device=getattr(self, name).device))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def param_groups(self, base_lr: float) -> list[dict[str, Any]]:
        """Return one optimizer group per learned tensor: ``name``, ``params``, ``lr`` and ``weight_decay`` (0)."""
        return [
            {"name": name, "params": [parameter], "lr": base_lr, "weight_decay": 0.0}
            for name, parameter in self.named_parameters()
        ]


MODULES = (
    "named",
    "pairs",
    "triplets",
    "distance_weighted",
    "batch_softmax",
    "ranking",
    "library",
    "adaptive",
    "hierarchy",
    "quintuplet",
    "uncertainty",
    "two_stage",
)
LOSSES: Registry[Loss] = Registry("losses", [f"dml_bench.losses.{module}" for module in MODULES])
"""Factories ``(task: Task, /, *, ...) -> Loss``."""


def build(
    key: str,
    num_classes: int,
    embedding_dim: int,
    *,
    class_counts: Tensor | Sequence[int] | None = None,
    ignore_index: int | None = None,
    **options: Any,
) -> Loss:
    """Build the loss registered as ``key``; its centers are drawn from torch's global generator.

    Args:
        key: a registered name, such as ``softtriple``.
        num_classes: C >= 1; labels lie in [0, C).
        embedding_dim: D >= 1.
        class_counts: ``(C,)`` images per class, for the losses that weigh classes by them.
        ignore_index: label of samples or pixels to leave out, for the losses that take pixels.
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
    try:
        counts = None if class_counts is None else torch.as_tensor(class_counts)
    except (TypeError, ValueError, RuntimeError):
        raise OptionError([Problem(("class_counts",), f"must be numbers of images, not {class_counts!r}")]) from None
    return LOSSES.build(key, Task(num_classes, embedding_dim, counts, ignore_index), **options)


def check_embeddings(embeddings: Tensor, dim: int) -> None:
    """Refuse what is not a non-empty, finite, floating-point ``(N, dim)`` tensor with a DataError."""
    if not embeddings.is_floating_point():
        raise DataError(f"embeddings must be floating point, not {embeddings.dtype}")
    if embeddings.ndim != 2 or embeddings.shape[1] != dim or embeddings.shape[0] == 0:
        raise DataError(f"embeddings must have shape (N, {dim}) with N >= 1, not {tuple(embeddings.shape)}")
    # The norm is finite if, and but for overflow only if, all of them are; a sum would wake a second thread.
    if math.isfinite(torch.linalg.vector_norm(embeddings.detach())):
        return
    finite = embeddings.detach().isfinite().all(dim=1)
    if not finite.all():
        rows = (~finite).nonzero()[:, 0].tolist()
        raise DataError(f"embeddings must be finite: {len(rows)} of {len(finite)} rows are not, the first is {rows[0]}")


def check_labels(labels: Tensor, size: int, num_classes: int) -> None:
    """Refuse labels that are not ``(size,)`` integers in [0, num_classes) with a DataError."""
    _check_integers("labels", labels, size)
    low, high = (bound.item() for bound in labels.long().aminmax())
    if low < 0 or high >= num_classes:
        raise DataError(f"labels must lie in [0, {num_classes}), not {low if low < 0 else high}")


def check_indices(indices: Tensor, size: int) -> None:
    """Refuse positions that are not ``(size,)`` integers >= 0 with a DataError."""
    _check_integers("indices", indices, size)
    if indices.min() < 0:
        raise DataError(f"indices must be >= 0, not {indices.min().item()}")


def remembered(table: Tensor, indices: Int[Tensor, " N"] | None) -> Tensor | None:
    """Return the ``(N,)`` entries of what a loss remembers of each training image.

    It is None without indices, and where ``table`` is still empty.

    Raises:
        DataError: if an index lies beyond the training set.
    """
    if indices is None or len(table) == 0:
        return None
    if indices.max() >= len(table):
        raise DataError(f"indices must lie in [0, {len(table)}), the training set, not {indices.max().item()}")
    return table[indices]


def check_tensor(name: str, value: object) -> None:
    """Refuse what is no tensor with a DataError."""
    if not isinstance(value, Tensor):
        raise DataError(f"{name} must be a tensor, not {type(value).__name__}")


def _check_integers(name: str, values: Tensor, size: int) -> None:
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise DataError(f"{name} must be integers, not {values.dtype}")
    if values.shape != (size,):
        raise DataError(f"{name} must have shape ({size},), one per embedding, not {tuple(values.shape)}")
