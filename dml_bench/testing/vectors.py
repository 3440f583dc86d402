"""The published test vectors: values and gradient norms that several independent implementations agree on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from dml_bench.losses import build
from dml_bench.losses.hierarchy import hierarchical_triplet
from dml_bench.losses.quintuplet import quintuplet_costs
from dml_bench.testing.finding import short

TENSORS = {"W": "centers", "P": "centers", "Wv": "centers", "b": "bias", "m_c": "margins"}
"""Symbols of the literature to names of learned tensors."""

NAMES = {
    "m": "margin",
    "la": "scale",
    "lam": "annealing",
    "lam_anneal": "annealing",
    "tau": "regularizer_weight",
    "mode": "overflow",
    "reduce": "reduction",
    "T": "temperature",
    "ks": "k",
    "t1": "rank_temperature",
    "t2": "hit_temperature",
    "l2_reg": "regularizer_weight",
    "V": "members",
}
"""Symbols of the literature to names of options."""

NAMES_OF = {
    "l2_softmax": {"alpha": "scale"},
    "coco": {"eps": "epsilon"},
    "em_softmax": {"lam": "diversity_weight"},
    "uniform_loss": {"lam": "weight"},
    "uniformface": {"lam": "uniform_weight"},
    "adaptiveface": {"lam": "margin_weight"},
    "affinity": {"lam": "margin"},
    "uncertainty_softmax": {"lam": "penalty_weight"},
    "proxy_anchor": {"alpha": "scale"},
    "margin_loss": {"alpha": "margin", "triplets": "sampling"},
    "multi_similarity": {"eps": "mining_epsilon"},
    "circle": {"gamma": "scale"},
    "htl": {"beta": "margin"},
}
"""Where a loss gives a symbol another meaning."""

IMPLIED = {
    "coco": {"alpha"},
    "class_balanced": {"counts"},
    "sv_softmax": {"base", "m"},
    "sv_am_softmax": {"base"},
    "sv_arc_softmax": {"base"},
    "softtriple": {"eps"},
    "contrastive": {"normalize"},
    "triplet_all": {"normalize"},
    "triplet_semihard": {"normalize"},
    "npair": {"anchors", "positives"},
    "quintuplet": {"tuples", "g1", "g2", "g3"},
}
"""What a loss has no option for, because it always is so."""


@dataclass(frozen=True, eq=False)
class Vector:
    """One published vector.

    Args:
        loss: the key.
        hyper: hyperparameters in the symbols of the literature.
        inputs: the arrays it is about: ``x``, ``y`` and those in ``params``.
        params: symbols of the learned arrays.
        value: the loss.
        norms: gradient norms by symbol, ``x`` included.
        sources: the implementations that agree.
    """

    loss: str
    hyper: dict[str, Any]
    inputs: dict[str, Tensor]
    params: tuple[str, ...]
    value: float
    norms: dict[str, float]
    sources: tuple[str, ...]

    @property
    def options(self) -> dict[str, Any]:
        """The hyperparameters under the names that a recipe uses."""
        names = NAMES | NAMES_OF.get(self.loss, {})
        implied = IMPLIED.get(self.loss, set())
        options = {names.get(symbol, symbol): v for symbol, v in self.hyper.items() if symbol not in implied}
        if options.get("form") == "pml":
            options["form"] = "linear"
        if "P" in self.params:
            options["centers_per_class"] = self.inputs["P"].shape[1]
        return options

    def __str__(self) -> str:
        return f"{self.loss}({', '.join(f'{k}={short(v)}' for k, v in self.options.items())})"


@cache
def load() -> tuple[Vector, ...]:
    """Read the vectors that ship with the package."""
    text = files("dml_bench.testing").joinpath("loss_vectors.json").read_text(encoding="utf-8")
    data = json.loads(text)
    return tuple(_vector(item, data["cases"][item["case"]]) for item in data["vectors"])


def of(key: str) -> list[Vector]:
    """Return the vectors of the loss ``key``."""
    return [vector for vector in load() if vector.loss == key]


def errors(vector: Vector, dtype: torch.dtype = torch.float64) -> dict[str, float]:
    """Return the absolute errors of the ``value`` and of each gradient's norm, by symbol."""
    x = vector.inputs["x"].to(dtype).requires_grad_()
    loss, learned = FORMULAS.get(vector.loss, _built)(vector, dtype)
    value = loss(x)
    tensors = {"x": x, **learned}
    gradients = torch.autograd.grad(value, list(tensors.values()))
    lengths = {symbol: float(g.norm()) for symbol, g in zip(tensors, gradients, strict=True)}
    return {"value": abs(value.item() - vector.value)} | {s: abs(lengths[s] - n) for s, n in vector.norms.items()}


Formula = tuple[Callable[[Tensor], Tensor], dict[str, Tensor]]
"""The loss as a function of embeddings, and what it has learned, by symbol."""


def _built(vector: Vector, dtype: torch.dtype) -> Formula:
    """Build the loss and put its learned arrays in place."""
    counts, labels = vector.inputs["counts"], vector.inputs["y"]
    dim = vector.inputs["x"].shape[1]
    loss = build(vector.loss, len(counts), dim, class_counts=counts, **vector.options).to(dtype)
    learned: dict[str, Tensor] = {symbol: loss.get_parameter(TENSORS[symbol]) for symbol in vector.params}
    for symbol, parameter in learned.items():
        parameter.data = vector.inputs[symbol].to(dtype).reshape(parameter.shape)

    def value(x: Tensor) -> Tensor:
        return loss(x, labels)  # type: ignore[no-any-return]

    return value, learned


def _uncertainty(vector: Vector, dtype: torch.dtype) -> Formula:
    """Put margins and penalties in place as an epoch would."""
    known = {symbol: vector.inputs[symbol].to(dtype).requires_grad_() for symbol in ("m_unc", "pen")}
    loss = build(vector.loss, len(known["m_unc"]), vector.inputs["x"].shape[1], **vector.options).to(dtype)
    loss.class_margins, loss.penalties = known["m_unc"], known["pen"]
    centers = loss.get_parameter("centers")
    centers.data = vector.inputs["W"].to(dtype).reshape(centers.shape)
    labels = vector.inputs["y"]
    return lambda x: loss(x, labels, torch.arange(len(labels))), {"W": centers, **known}


def _hierarchical(vector: Vector, dtype: torch.dtype) -> Formula:
    """Take the thresholds at which classes join, and their spreads, as given."""
    joins, spreads = (vector.inputs[symbol].to(dtype).requires_grad_() for symbol in ("dH", "s_c"))
    labels, beta = vector.inputs["y"], vector.hyper["beta"]

    def loss(x: Tensor) -> Tensor:
        margins = beta + joins[labels][:, labels] - spreads[labels][:, None]
        return hierarchical_triplet(x, labels, margins, vector.hyper["squared"])

    return loss, {"dH": joins, "s_c": spreads}


def _tuples(vector: Vector, dtype: torch.dtype) -> Formula:
    """Take the tuples as given."""
    tuples, margins = torch.tensor(vector.hyper["tuples"]), [vector.hyper[g] for g in ("g1", "g2", "g3")]
    return lambda x: quintuplet_costs(x, tuples, margins).sum(dim=1).mean(), {}


FORMULAS: dict[str, Callable[[Vector, torch.dtype], Formula]] = {
    "uncertainty_softmax": _uncertainty,
    "htl": _hierarchical,
    "quintuplet": _tuples,
}
"""Losses that must be told more than options and learned tensors."""


def _vector(item: dict[str, Any], case: dict[str, Any]) -> Vector:
    params = tuple(item["params"])
    inputs = {name: torch.tensor(case[name]) for name in ("y", "counts", "x", *params)}
    inputs = {name: t.double() if t.is_floating_point() else t for name, t in inputs.items()}
    exact = {name: torch.tensor(case[name], dtype=torch.float64) for name in ("x", *params)}
    norms = {symbol: item[f"grad_{symbol}_norm"] for symbol in ("x", *params) if f"grad_{symbol}_norm" in item}
    sources = tuple(agreed["source"] for agreed in item["agreed_with"])
    return Vector(item["loss"], item["hyper"], inputs | exact, params, item["value"], norms, sources)
