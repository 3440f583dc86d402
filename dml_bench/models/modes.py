"""Evaluation mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


@contextmanager
def evaluation_mode(model: nn.Module, *, dropout: bool = False) -> Iterator[None]:
    """Switch to evaluation mode, then give each module its own mode back: frozen ones were not in training mode.

    Args:
        model: the network.
        dropout: whether dropout layers stay on.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    for module in dropout_layers(model) if dropout else ():
        module.training = True
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def dropout_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers that drop something out in training mode."""
    return [module for module in model.modules() if isinstance(module, DROPOUT) and module.p > 0]
