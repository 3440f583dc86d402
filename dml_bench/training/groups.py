"""Which parameters there are to optimise, and at what rate, decay and eps each of them is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from dml_bench.errors import OptionError, Problem, TrainingError
from dml_bench.losses.loss import Loss
from dml_bench.recipe.schema import Group, Training
from dml_bench.training.optimizers import Groups


def parameter_groups(model: nn.Module, loss: Loss, settings: Training) -> Groups:
    """Return the optimizer's groups: the network's first, then those of the loss at the rates the recipe gives it.

    Parameters that get no gradient are in none of them, so that nothing moves them.

    Raises:
        OptionError: if the recipe says something of a head that is not there, or of an eps that the optimizer lacks.
        TrainingError: if a parameter of the loss is in no group, or nothing is left to be trained.
    """
    _check_eps(settings)
    groups = [group for group in (*_network(model, settings), *_loss(loss, settings)) if group["params"]]
    if not groups:
        raise TrainingError(
            "there is nothing to train: the loss has no parameters, and the network has none or is frozen"
        )
    return groups


def _network(model: nn.Module, settings: Training) -> Groups:
    parts = {"backbone": settings.backbone, "head": settings.head}
    head = {id(p) for p in getattr(model, "head", nn.Identity()).parameters()}
    if settings.head != Group() and not head:
        raise OptionError([Problem(("training", "head"), "the network has no head to set this for")])
    found: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    apart, spares = settings.backbone != settings.head, settings.decay == "weights"
    for parameter in model.parameters():
        if parameter.requires_grad:
            key = (apart and id(parameter) in head, spares and parameter.ndim <= 1)
            found.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            **_options(parts["head" if is_head else "backbone"], settings.optimizer),
            **_spared(vector),
        }
        for (is_head, vector), parameters in found.items()
    ]


def _loss(loss: Loss, settings: Training) -> Groups:
    options = {"lr": settings.optimizer["lr"], **_options(settings.centers, settings.optimizer)}
    groups = [{**options, "params": part["params"], "lr": part["lr"]} for part in loss.param_groups(options["lr"])]
    known = {id(p) for group in groups for p in group["params"]}
    lost = [name for name, p in loss.named_parameters() if p.requires_grad and id(p) not in known]
    if lost:
        raise TrainingError(f"param_groups of {type(loss).__name__} leaves out {', '.join(lost)}")
    return groups


def _options(part: Group, optimizer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the part does not leave to the optimizer."""
    rate = part.lr if part.lr_factor is None else part.lr_factor * optimizer["lr"]
    own = {"lr": rate, "weight_decay": part.weight_decay, "eps": part.eps}
    return {name: value for name, value in own.items() if value is not None}


def _spared(vector: bool) -> dict[str, float]:
    return {"weight_decay": 0.0} if vector else {}


def _check_eps(settings: Training) -> None:
    if "eps" not in settings.optimizer:
        problems = [
            Problem(("training", name, "eps"), f"the optimizer {settings.optimizer['name']} has no eps")
            for name in ("backbone", "head", "centers")
            if getattr(settings, name).eps is not None
        ]
        if problems:
            raise OptionError(problems)
