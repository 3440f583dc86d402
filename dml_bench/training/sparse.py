"""Optimizers for losses with so many classes that a step must not touch all of their centers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dml_bench.errors import OptionError, Problem
from dml_bench.losses.loss import Loss
from dml_bench.training.optimizers import OPTIMIZERS, Groups


def with_sparse_gradient(loss: Loss) -> list[nn.Parameter]:
    """Return the parameters whose gradient the loss declares to be sparse."""
    return [parameter for name, parameter in loss.named_parameters() if name in loss.sparse_parameters]


def build_optimizers(choice: Mapping[str, Any], groups: Groups, sparse: Collection[Tensor]) -> list[Optimizer]:
    """Build the optimizer of a recipe, and beside it one for the parameters whose gradient is sparse, if there are any.

    That is SparseAdam with the same rate, betas and eps: Adam that steps the rows which have a gradient, and leaves
    the averages of all others as they are until it is their turn.

    Raises:
        OptionError: if the recipe's optimizer is not adam or adamw, or a sparse parameter has a weight decay, which
            would touch every row in each step.
    """
    options = {name: value for name, value in choice.items() if name != "name"}
    if not sparse:
        return [OPTIMIZERS.build(choice["name"], groups, **options)]
    marks = {id(parameter) for parameter in sparse}
    dense, rows = ([_only(group, marks, inside) for group in groups] for inside in (False, True))
    _check(choice["name"], choice.get("weight_decay", 0.0), [group for group in rows if group["params"]])
    return [
        OPTIMIZERS.build(choice["name"], [group for group in dense if group["params"]], **options),
        torch.optim.SparseAdam(
            [_known(group) for group in rows if group["params"]],
            betas=(options["beta1"], options["beta2"]),
            eps=options["eps"],
        ),
    ]


def _only(group: dict[str, Any], marks: set[int], inside: bool) -> dict[str, Any]:
    return {**group, "params": [p for p in group["params"] if (id(p) in marks) == inside]}


def _known(group: dict[str, Any]) -> dict[str, Any]:
    """Return what SparseAdam takes: it has no weight decay."""
    return {name: value for name, value in group.items() if name != "weight_decay"}


def _check(name: str, decay: float, groups: Groups) -> None:
    problems = []
    if name not in ("adam", "adamw"):
        problems.append(Problem(("optimizer",), f"must be adam or adamw for sampled_classes, not {name}"))
    if any(group.get("weight_decay", decay) for group in groups):
        reason = "must be 0 for sampled_classes, whose steps leave most centers untouched"
        problems.append(Problem(("centers", "weight_decay"), reason))
    if problems:
        raise OptionError(problems)
