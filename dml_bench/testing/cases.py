"""Seeded batches that are hard to get right, and losses built for them: the same on every machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dml_bench.losses import Loss, build

CLASSES, DIM = 5, 6
COUNTS = (100, 40, 10, 7, 3)
"""Images per class in the imagined training set, for the losses that weigh classes by them."""

LEFT_OUT = 250
"""Label of the pixels of ``dense`` that do not count."""

LABELS = {
    "balanced": [0, 0, 1, 1, 2, 2, 3, 3, 4, 4],
    "unbalanced": [0] * 7 + [1, 2, 2],
    "absent": [4, 4, 4, 1, 1],
    "three": [0, 0, 1],
    "clustered": [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3],
    "singletons": [0, 1, 2, 3, 4],
    "one_class": [2, 2, 2],
    "one_sample": [3],
}


@dataclass(frozen=True, eq=False)
class Batch:
    """Embeddings ``x (N, D)`` in float64 and labels ``y (N,)``."""

    name: str
    x: Tensor
    y: Tensor


def batch(name: str) -> Batch:
    """Draw one of the batches of ``LABELS``; in ``clustered`` most triplets are nearly in order."""
    noise, y = generator(list(LABELS).index(name)), torch.tensor(LABELS[name])
    x = torch.randn(len(y), DIM, generator=noise, dtype=torch.float64)
    if name == "clustered":
        x = 0.6 * x + torch.randn(CLASSES, DIM, generator=noise, dtype=torch.float64)[y]
    return Batch(name, x, y)


def batches() -> list[Batch]:
    """Draw every batch of ``LABELS``."""
    return [batch(name) for name in LABELS]


def dense() -> tuple[Tensor, Tensor]:
    """Draw two images of 2 x 3 pixels, ``(2, D, 2, 3)``, and their labels, of which three are ``LEFT_OUT``."""
    x = torch.randn(2, DIM, 2, 3, generator=generator(77), dtype=torch.float64).requires_grad_()
    return x, torch.tensor([[[0, 1, LEFT_OUT], [2, 2, 0]], [[LEFT_OUT, 4, 3], [1, LEFT_OUT, 3]]])


def extreme(loss: Loss) -> Batch:
    """Put embeddings on the first center of each class (0 degrees), opposite to it (180) and very near to both.

    A loss without centers gets embeddings that coincide with each other, or point in opposite directions.
    """
    centers = getattr(loss, "centers", None)
    if centers is None:
        first = torch.randn(CLASSES, DIM, generator=generator(99), dtype=torch.float64)
    else:
        first = (centers[0] if centers.ndim == 4 else centers).detach()[:, 0].double()
    near = first + 1e-7 * torch.randn(first.shape, generator=generator(98), dtype=torch.float64)
    x = torch.cat([first, -first, 1e-3 * first, 1e6 * first.roll(1, 0), near, -near])
    return Batch("extreme", x, torch.arange(len(first)).repeat(6))


def make(key: str, seed: int = 0, **options: Any) -> Loss:
    """Build the loss ``key`` in float64 with centers drawn from ``seed``; the global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(key, CLASSES, DIM, class_counts=torch.tensor(COUNTS), **options).double()


def generator(seed: int) -> torch.Generator:
    """Return a generator of its own for each use."""
    return torch.Generator().manual_seed(seed)
