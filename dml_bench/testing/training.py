"""A small training set that an epoch can begin with, for the losses that listen to it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from dml_bench.epoch import EpochContext
from dml_bench.testing.cases import CLASSES, DIM, Batch, generator

GROUPS, EACH = 2, 4


@dataclass(eq=False)
class Training:
    """Each class falls into two groups of four images that lie far apart.

    Attributes:
        x: ``(n, D)`` embeddings in float64.
        labels: ``(n,)``, mixed.
        groups: ``(n,)``, the group of each image in its class.
        passes: the embeddings with dropout that were asked for.
    """

    x: Tensor = field(init=False)
    labels: Tensor = field(init=False)
    groups: Tensor = field(init=False)
    passes: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        noise = generator(41)
        order = torch.randperm(CLASSES * GROUPS * EACH, generator=noise)
        self.labels, self.groups = (order // (GROUPS * EACH)), order // EACH % GROUPS
        spots = torch.randn(CLASSES, GROUPS, DIM, generator=noise, dtype=torch.float64)
        self.x = spots[self.labels, self.groups] + 0.1 * torch.randn(
            len(order), DIM, generator=noise, dtype=torch.float64
        )

    def begin(self, epoch: int = 1) -> EpochContext:
        """Return what a loss is told when an epoch begins."""
        return EpochContext(epoch, self.labels, self._embed, generator(42))

    def batch(self, *classes: int) -> tuple[Batch, Tensor]:
        """Return the images of some classes, by default of all, and their positions."""
        wanted = torch.tensor(classes or range(CLASSES))
        (positions,) = torch.isin(self.labels, wanted).nonzero(as_tuple=True)
        return Batch("training", self.x[positions], self.labels[positions]), positions

    def _embed(self, dropout: bool) -> Tensor:
        if not dropout:
            return self.x
        size = 0.2 * (1 + self.labels[:, None])
        noise = torch.randn(self.x.shape, generator=generator(50 + len(self.passes)), dtype=torch.float64)
        self.passes.append(self.x + size * noise)
        return self.passes[-1]
