"""Call the plain loops of ``oracle`` with a loss's own tensors, and differentiate them numerically."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from dml_bench.losses import Loss
from dml_bench.testing import oracle
from dml_bench.testing.cases import COUNTS, Batch, generator

STEP = 3e-5
"""Of the differences, of the fourth order in it, along directions of unit length."""


def has_reference(key: str) -> bool:
    """Tell whether there are plain loops for the loss ``key``."""
    return key in oracle.__all__


def value(key: str, tensors: Mapping[str, Tensor], labels: Tensor, options: Mapping[str, Any]) -> float:
    """Return what the plain loops say.

    Args:
        key: the loss.
        tensors: ``x``, the loss's parameters and buffers, and ``weights_at``, the embeddings that weights which are
            constants are computed from; the loops get those they ask for.
        labels: ``(N,)`` integers.
        options: what the recipe sets; the loops have defaults of their own.
    """
    loops: Callable[..., float] = getattr(oracle, key)
    lists = {name: tensor.tolist() for name, tensor in tensors.items()}
    known = {"class_counts": list(COUNTS), "parts": options, **options, **lists}
    takes = inspect.signature(loops).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in takes.values())
    given = {name: v for name, v in known.items() if name != "x" and (name in takes or (anything and name in options))}
    missing = set(options) - set(given) if "parts" not in given else set()
    if missing:
        raise TypeError(f"the plain loops of {key} do not take {', '.join(sorted(missing))}")
    return float(loops(known["x"], labels.tolist(), **given))


def tensors_of(loss: Loss, case: Batch) -> dict[str, Tensor]:
    """Return ``x`` and everything the loss holds, by the last part of its name."""
    state = {name.split(".")[-1]: tensor.detach().double() for name, tensor in loss.state_dict().items()}
    return {"x": case.x.double(), "weights_at": case.x.double(), **state}


def value_error(key: str, loss: Loss, case: Batch, options: Mapping[str, Any]) -> float:
    """Return the error of the loss, relative to the size of its value if that exceeds 1."""
    wanted = value(key, tensors_of(loss, case), case.y, options)
    with torch.no_grad():
        return abs(float(loss(case.x, case.y)) - wanted) / max(1.0, abs(wanted))


def gradient_error(key: str, loss: Loss, case: Batch, options: Mapping[str, Any], directions: int = 3) -> float:
    """Return the largest error of the derivatives along random directions, relative to the gradient's length."""
    tensors, noise = tensors_of(loss, case), generator(7)
    gradients = gradients_of(loss, case)
    length = math.sqrt(sum(float(g.square().sum()) for g in gradients.values()))
    errors = []
    for _ in range(directions):
        way = {name: torch.randn(g.shape, generator=noise, dtype=torch.float64) for name, g in gradients.items()}
        unit = math.sqrt(sum(float(w.square().sum()) for w in way.values()))
        exact = sum(float((gradients[name] * w).sum()) for name, w in way.items()) / unit

        def along(step: float, way: dict[str, Tensor] = way, unit: float = unit) -> float:
            moved = {name: t + step / unit * way[name] if name in way else t for name, t in tensors.items()}
            return value(key, moved, case.y, options)

        slope = (8 * (along(STEP) - along(-STEP)) - (along(2 * STEP) - along(-2 * STEP))) / (12 * STEP)
        errors.append(abs(slope - exact) / max(1.0, length))
    return max(errors)


def gradients_of(loss: Loss, case: Batch) -> dict[str, Tensor]:
    """Return the gradients by ``x`` and by each learned tensor."""
    x = case.x.clone().requires_grad_()
    inputs = {"x": x, **dict(loss.named_parameters())}
    gradients = torch.autograd.grad(loss(x, case.y), list(inputs.values()), allow_unused=True)
    pairs = zip(inputs.items(), gradients, strict=True)
    return {name: torch.zeros_like(tensor) if g is None else g for (name, tensor), g in pairs}
