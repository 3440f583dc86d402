"""What losses and samplers may look at when an epoch begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class EpochContext:
    """The training set as the network sees it when an epoch begins. Nothing is computed before somebody asks.

    Args:
        epoch: counts from 1.
        labels: ``(n,)`` integers, of all training images in order; on the device of the network.
        run: embeds all training images in order, ``(n, D)``: without dropout, or with a mask drawn anew each time.
        generator: for the draws of whoever listens, on the CPU.
    """

    epoch: int
    labels: Tensor
    run: Callable[[bool], Tensor]
    generator: torch.Generator

    def embed(self) -> Tensor:
        """Return the ``(n, D)`` embeddings in evaluation mode; they are computed once an epoch."""
        return self._embeddings

    def embed_with_dropout(self) -> Tensor:
        """Return the ``(n, D)`` embeddings of one more pass with dropout on; normalisation layers stay as they are.

        Raises:
            OptionError: if the network drops nothing out.
        """
        return self.run(True)

    @cached_property
    def _embeddings(self) -> Tensor:
        return self.run(False)
