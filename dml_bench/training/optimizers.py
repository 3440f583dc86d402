"""Optimizers a recipe may name."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch.optim import Optimizer

from dml_bench.errors import OptionError, Problem
from dml_bench.registry import NonNegative, Positive, Registry

OPTIMIZERS: Registry[Optimizer] = Registry("optimizers")
"""Factories ``(groups, /, *, lr, weight_decay, ...) -> Optimizer``; ``groups`` may override lr and weight decay."""

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


@OPTIMIZERS.register("sgd")
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
