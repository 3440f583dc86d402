"""Pairs of losses that must be equal, in value and in the gradient by the embeddings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dml_bench.losses import LOSSES, Loss
from dml_bench.testing.cases import Batch, make
from dml_bench.testing.finding import short


@dataclass(frozen=True)
class Identity:
    """``key`` with ``options`` equals ``other`` with ``other_options``, both holding the same tensors.

    Args:
        key: the loss that the card is about.
        options: its options.
        other: the loss it must equal.
        other_options: options of that one.
        tolerance: of the largest difference, relative where values exceed 1; above 1e-9 only for limits.
        adapt: what to do to the value of ``other``, given that loss, before the two are compared.
        shared: changes the two losses before they are compared, such as by giving both unit centers.
        where: in words, what ``shared`` and ``adapt`` do.
    """

    key: str
    options: Mapping[str, Any]
    other: str
    other_options: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-9
    adapt: Callable[[Tensor, Loss], Tensor] = lambda value, loss: value
    shared: Callable[[Loss], None] = lambda loss: None
    where: str = ""

    def error(self, case: Batch) -> float:
        """Return the largest difference on one batch."""
        ours, theirs = make(self.key, **self.options), make(self.other, **self.other_options)
        _share(ours, theirs)
        self.shared(ours)
        self.shared(theirs)
        first, second = _measure(ours, case), _measure(theirs, case, lambda value: self.adapt(value, theirs))
        return float(((first - second).abs() / second.abs().clamp(min=1.0)).max())

    def __str__(self) -> str:
        where = f", {self.where}" if self.where else ""
        return f"{_call(self.key, self.options)} = {_call(self.other, self.other_options)}{where}"


def identities(key: str) -> Iterator[Identity]:
    """Yield the identities of the loss ``key`` whose other side is registered."""
    return (item for item in ALL if item.key == key and item.other in LOSSES)


def _measure(loss: Loss, case: Batch, adapt: Callable[[Tensor], Tensor] = lambda value: value) -> Tensor:
    x = case.x.clone().requires_grad_()
    value = adapt(loss(x, case.y))
    (gradient,) = torch.autograd.grad(value, x)
    return torch.cat([value.detach()[None], gradient.flatten()])


def _share(ours: Loss, theirs: Loss) -> None:
    """Give the loss with more centers per class or members the tensors of the other one, repeated."""
    parameters = dict(theirs.named_parameters())
    for name, mine in ours.named_parameters():
        if name in parameters and mine.numel() >= parameters[name].numel():
            mine.data = parameters[name].data.expand_as(mine).clone()
        elif name in parameters:
            parameters[name].data = mine.data.expand_as(parameters[name]).clone()


def _call(key: str, options: Mapping[str, Any]) -> str:
    return f"{key}({', '.join(f'{name}={short(value)}' for name, value in options.items())})"


def _unit_without_bias(loss: Loss) -> None:
    parameters = dict(loss.named_parameters())
    parameters["centers"].data /= parameters["centers"].data.norm(dim=-1, keepdim=True)
    if "bias" in parameters:
        parameters["bias"].data.zero_()


def _equal_margins(loss: Loss) -> None:
    if "margins" in dict(loss.named_parameters()):
        loss.get_parameter("margins").data.fill_(0.35)


NO_MARGIN = {"margin": 0.0, "scale": 20.0}

ALL = [
    Identity("softtriple", {"centers_per_class": 1, "margin": 0.0}, "norm_softmax"),
    Identity("softtriple", {"centers_per_class": 4, "margin": 0.0, "regularizer_weight": 0.0}, "norm_softmax"),
    Identity(
        "softtriple",
        {"centers_per_class": 3, "gamma": 1e-4, "regularizer_weight": 0.0},
        "hardtriple",
        {"centers_per_class": 3},
        tolerance=1e-5,
    ),
    Identity("hardtriple", {"centers_per_class": 1, "margin": 0.0}, "norm_softmax"),
    Identity("am_softmax", NO_MARGIN, "norm_softmax"),
    *(Identity("arcface", {**NO_MARGIN, "overflow": mode}, "norm_softmax") for mode in ("insightface", "easy", "none")),
    Identity(
        "arcface",
        {"overflow": "continuous"},
        "combined_margin",
        {"m1": 1.0, "m2": 0.5, "m3": 0.0, "overflow": "monotone"},
    ),
    Identity("combined_margin", {"m1": 1.0, "m2": 0.0, "m3": 0.0, "scale": 20.0}, "norm_softmax"),
    Identity("combined_margin", {"m1": 1.0, "m2": 0.0, "m3": 0.35}, "am_softmax", {"margin": 0.35, "scale": 64.0}),
    Identity("combined_margin", {"m1": 1.0, "m2": 0.5, "m3": 0.0}, "arcface", {"margin": 0.5, "overflow": "none"}),
    Identity(
        "a_softmax",
        {"margin": 3, "annealing": 0.0, "scale": 64.0},
        "combined_margin",
        {"m1": 3.0, "m2": 0.0, "m3": 0.0, "overflow": "monotone"},
    ),
    Identity("proxy_nca_pp", {"temperature": 0.2}, "norm_softmax", {"scale": 10.0}),
    Identity("subcenter_arcface", {"centers_per_class": 1}, "arcface"),
    Identity(
        "subcenter_arcface", {"margin": 0.0, "scale": 20.0}, "hardtriple", {"centers_per_class": 3, "margin": 0.0}
    ),
    Identity(
        "l2_softmax", {"scale": 20.0}, "norm_softmax", shared=_unit_without_bias, where="with centers of unit length"
    ),
    Identity("focal", {"gamma": 0.0}, "softmax_ce"),
    Identity("ohem", {"keep_ratio": 1.0}, "softmax_ce"),
    Identity("class_balanced", {"beta": 0.0}, "softmax_ce"),
    Identity("nra", {"beta": 1.0}, "arcface"),
    Identity("nra_two_stage", {}, "arcface"),
    Identity("nra_two_stage", {"from_epoch": 1}, "nra"),
    Identity("sv_softmax", {"t": 1.0}, "norm_softmax", {"scale": 30.0}),
    Identity("sv_am_softmax", {"t": 1.0}, "am_softmax"),
    Identity("sv_arc_softmax", {"t": 1.0, "scale": 64.0}, "arcface"),
    Identity("l_softmax", {"margin": 1, "annealing": 0.0}, "softmax_ce", {"bias": False}),
    Identity("l_softmax", {"annealing": 1e12}, "softmax_ce", {"bias": False}),
    Identity("a_softmax", {"margin": 1, "annealing": 0.0}, "w_softmax"),
    Identity(
        "a_softmax",
        {"annealing": 5.0},
        "l_softmax",
        {"annealing": 5.0},
        shared=_unit_without_bias,
        where="with centers of unit length",
    ),
    Identity("af_softmax", {"gamma": 0.0, "annealing": 5.0}, "a_softmax", {"annealing": 5.0}),
    Identity("sm_softmax", {"margin": 0.0}, "softmax_ce", {"bias": False}),
    Identity("em_softmax", {"members": 1}, "sm_softmax"),
    Identity(
        "adaptiveface",
        {"margin_weight": 7.0},
        "am_softmax",
        {"margin": 0.35},
        adapt=lambda value, loss: value - 7.0 * 0.35,
        shared=_equal_margins,
        where="with learned margins of 0.35, minus 7 of them",
    ),
    Identity("uniformface", {"uniform_weight": 0.0, "annealing": 5.0}, "a_softmax", {"annealing": 5.0}),
    Identity(
        "l_softmax",
        {"margin": 2.0, "annealing": 0.0},
        "proxy",
        {"similarity": "dot", "margin": {"multiplicative": {"margin": 2.0, "annealing": 0.0}}},
    ),
    Identity("proxy", {}, "norm_softmax", {"scale": 1.0}),
    Identity(
        "proxy",
        {
            "centers": {"soft": 0.1},
            "margin": {"additive": 0.01},
            "regularizer": [{"merge_centers": 0.2}],
            "scale": 20.0,
        },
        "softtriple",
    ),
    Identity("proxy", {"centers": "nearest", "margin": {"additive": 0.01}, "scale": 20.0}, "hardtriple"),
    Identity(
        "proxy", {"margin": {"angular": 0.5}, "negatives": {"support_vector": 1.2}, "scale": 30.0}, "sv_arc_softmax"
    ),
    Identity(
        "proxy",
        {
            "margin": "per_class",
            "negatives": {"candidates": 2},
            "regularizer": [{"mean_margin": 20.0}],
            "scale": 30.0,
        },
        "adaptiveface",
        {"candidates": 2},
    ),
    Identity("proxy", {"similarity": "negative_squared_distance", "objective": "nca", "scale": 9.0}, "proxy_nca"),
    Identity("proxy", {"similarity": "dot", "bias": True, "weighting": [{"focal": 2.0}]}, "focal"),
    Identity("proxy", {"similarity": "dot", "bias": True, "weighting": [{"hardest": 0.7}]}, "ohem"),
    Identity("coco", {}, "norm_softmax", {"scale": 0.5 * math.log(4 / math.expm1(1e-4))}),
]
