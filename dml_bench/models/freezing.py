"""Parts of a network that training leaves as they are: what each part is, and how it is held.

``freeze`` is called once, before the optimizer is built from the parameters that still require a gradient: what gets
no gradient and is in no optimizer is moved by nothing, weight decay included. Whatever calls ``model.train()``
afterwards, the modules held stay in evaluation mode: ``Embedder.train`` sees to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dml_bench.errors import OptionError, Problem
from dml_bench.models.embedder import Embedder
from dml_bench.registry import suggestion

Held = tuple[list[nn.Module], list[nn.Parameter]]
"""Modules that stay in evaluation mode, and parameters that get no gradient."""


def freeze(model: nn.Module, parts: Iterable[str]) -> None:
    """Freeze parts of an embedder for good; what was frozen before stays so.

    ``batch_norm``: normalise by the running statistics that are there, and do not update them; gamma and beta still
    learn. ``batch_norm_affine``: gamma and beta get no gradient; the statistics still move. ``stem``: the first
    convolutions, as the backbone defines them, with all of their batch normalisation. ``trunk``: the whole backbone,
    in evaluation mode, so that only the head learns.

    Source: SoftTriple's ``--freeze_BN`` is ``batch_norm``; Proxy-Anchor's ``bn_freeze`` freezes gamma and beta too,
    until its warm-up of the head (``head_only``) lets them learn: with one, it amounts to ``batch_norm``.

    Args:
        model: an ``Embedder``.
        parts: names of ``PARTS``.

    Raises:
        OptionError: for an unknown part, one that the backbone does not have, or a model that is no ``Embedder``.
    """
    embedder = _embedder(model)
    for part in parts:
        if part not in PARTS:
            raise _refusal(f"no part named '{part}'{suggestion(part, PARTS)}; known: {', '.join(PARTS)}")
        modules, parameters = PARTS[part](embedder)
        if not modules and not parameters:
            raise _refusal(f"{type(embedder.backbone).__name__} has no {part} to freeze")
        embedder.held += [module for module in modules if module not in embedder.held]
        for parameter in parameters:
            parameter.requires_grad_(False)
        frozen = set(map(id, parameters))
        embedder.resting = [parameter for parameter in embedder.resting if id(parameter) not in frozen]
    embedder.train(embedder.training)


def head_only(model: nn.Module, on: bool) -> None:
    """Let only the head learn, or again all that is not frozen. Call it at the start of an epoch, as often as you like.

    The backbone's parameters get no gradient while it is on, so an optimizer that holds them leaves them alone (as
    long as gradients are set to None, not to zero) and gathers no state for them. Build the optimizer before. Running
    statistics move on, unless they are frozen.

    Source: the warm-up of Proxy-Anchor (``--warm``) and ProxyNCA++ (``warmup_k``), which keep batch normalisation in
    training mode too.
    Differs: after it, Proxy-Anchor's code gives every parameter its gradient back, also gamma and beta, which it froze
    at the start. Here frozen stays frozen; to do as that code does, freeze ``batch_norm`` alone.

    Raises:
        OptionError: if the model is no ``Embedder``.
    """
    embedder = _embedder(model)
    if on:
        embedder.resting += [p for p in embedder.backbone.parameters() if p.requires_grad]
    for parameter in embedder.resting:
        parameter.requires_grad_(not on)
    if not on:
        embedder.resting = []


def _batch_norm(model: Embedder) -> Held:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)], []


def _batch_norm_affine(model: Embedder) -> Held:
    return [], [parameter for module in _batch_norm(model)[0] for parameter in module.parameters()]


def _stem(model: Embedder) -> Held:
    pattern = getattr(model.backbone, "stem", None)
    if not isinstance(pattern, str):
        return [], []
    backbone = model.backbone
    return (
        [module for name, module in backbone.named_modules() if re.match(pattern, name)],
        [parameter for name, parameter in backbone.named_parameters() if re.match(pattern, name)],
    )


def _trunk(model: Embedder) -> Held:
    parameters = list(model.backbone.parameters())
    return (list(model.backbone.modules()), parameters) if parameters else ([], [])


PARTS: dict[str, Callable[[Embedder], Held]] = {
    "batch_norm": _batch_norm,
    "batch_norm_affine": _batch_norm_affine,
    "stem": _stem,
    "trunk": _trunk,
}
"""What can be frozen, by name."""


def _embedder(model: nn.Module) -> Embedder:
    if not isinstance(model, Embedder):
        raise _refusal(f"a {type(model).__name__} cannot be frozen; only the network of a recipe can")
    return model


def _refusal(message: str) -> OptionError:
    return OptionError([Problem(("training", "freeze"), message)])
