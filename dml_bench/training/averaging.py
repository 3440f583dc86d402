"""The running mean of a network's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class RunningMean:
    """An exponential moving average of weights and buffers, those of batch normalisation among them.

    It begins with the network as it is: mean = decay * mean + (1 - decay) * network after every step. What is frozen
    stays exactly what it was. Counts, which are integers, are not averaged.

    Args:
        model: the network, on its device and in its memory layout.
        decay: in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        tensors = [*model.parameters(), *model.buffers()]
        self._live = [tensor.detach() for tensor in tensors if tensor.is_floating_point()]
        self._means = [tensor.clone() for tensor in self._live]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the network after a step."""
        for mean, value in zip(self._means, self._live, strict=True):
            mean.lerp_(value, 1 - self.decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the mean into the network for a while."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be saved with a training run."""
        return {"means": self._means}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` returned."""
        for mean, saved in zip(self._means, state["means"], strict=True):
            mean.copy_(saved)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the mean and what is in the network."""
        for mean, value in zip(self._means, self._live, strict=True):
            before = value.clone()
            value.copy_(mean)
            mean.copy_(before)
