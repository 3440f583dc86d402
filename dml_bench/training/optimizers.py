"""Optimizers a recipe may name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from torch.optim import Optimizer

from dml_bench.errors import OptionError, Problem
from dml_bench.registry import NonNegative, Positive, Registry

OPTIMIZERS: Registry[Optimizer] = Registry("optimizers")
"""Factories ``(groups, /, *, lr, weight_decay, ...) -> Optimizer``; ``groups`` may override them, and ``eps``."""

Groups = list[dict[str, Any]]
Below1 = Annotated[float, Field(ge=0, lt=1)]


@OPTIMIZERS.register("adamw")
def adamw(
    groups: Groups,
    /,
    *,
    lr: Positive = 1e-3,
    weight_decay: NonNegative = 1e-4,
    eps: Positive = 1e-8,
    beta1: Below1 = 0.9,
    beta2: Below1 = 0.999,
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter, ICLR 2019)."""
    return torch.optim.AdamW(groups, lr, (beta1, beta2), eps, weight_decay)


@OPTIMIZERS.register("adam")
def adam(
    groups: Groups,
    /,
    *,
    lr: Positive = 1e-3,
    weight_decay: NonNegative = 0.0,
    eps: Positive = 1e-8,
    beta1: Below1 = 0.9,
    beta2: Below1 = 0.999,
) -> Optimizer:
    """Adam with weight decay added to the gradient (Kingma & Ba, ICLR 2015); papers set ``eps`` up to 1."""
    return torch.optim.Adam(groups, lr, (beta1, beta2), eps, weight_decay)


@OPTIMIZERS.register("rmsprop")
def rmsprop(
    groups: Groups,
    /,
    *,
    lr: Positive = 1e-4,
    weight_decay: NonNegative = 1e-4,
    momentum: Below1 = 0.9,
    alpha: Below1 = 0.99,
    eps: Positive = 1e-8,
    centered: bool = False,
) -> Optimizer:
    """Divide the gradient by the root of a running mean of its squares, with decay ``alpha``; then momentum.

    ``centered``: divide by the running deviation instead.

    Source: Tieleman & Hinton, Coursera lecture 6.5, 2012. Musgrave et al., A Metric Learning Reality Check, ECCV 2020,
        train with lr 1e-6, weight decay 1e-4 and momentum 0.9.
    """
    return torch.optim.RMSprop(groups, lr, alpha, eps, weight_decay, momentum, centered)


def _no_eps(recipe: Mapping[str, Any]) -> None:
    """Refuse an eps of a part."""
    parts = {part: recipe["training"].get(part) for part in ("backbone", "head", "centers")}
    given = [part for part, own in parts.items() if isinstance(own, Mapping) and own.get("eps") is not None]
    if given:
        raise OptionError([Problem(("training", part, "eps"), "the optimizer sgd has no eps") for part in given])


@OPTIMIZERS.register("sgd", beside=_no_eps)
def sgd(
    groups: Groups,
    /,
    *,
    lr: Positive = 0.1,
    weight_decay: NonNegative = 1e-4,
    momentum: Below1 = 0.9,
    nesterov: bool = False,
) -> Optimizer:
    """Stochastic gradient descent with momentum; ``nesterov`` needs some."""
    if nesterov and momentum == 0:
        raise OptionError([Problem(("nesterov",), "needs a momentum above 0")])
    return torch.optim.SGD(groups, lr, momentum, weight_decay=weight_decay, nesterov=nesterov)
