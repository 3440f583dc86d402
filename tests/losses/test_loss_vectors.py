"""Values and gradient norms that several independent implementations agree on."""

import json
from pathlib import Path

import pytest
import torch

from dml_bench.losses import LOSSES, build

FILE = json.loads(Path(__file__).with_name("loss_vectors.json").read_text(encoding="utf-8"))
KEYS = {entry.name for entry in LOSSES}
OPTIONS = {"m": "margin", "la": "scale", "tau": "regularizer_weight", "mode": "overflow"}
"""Symbols of the literature to names of options; the epsilon of multi_similarity is one, that of softtriple is not."""


def options_of(vector):
    options = {OPTIONS.get(name, name): value for name, value in vector["hyper"].items()}
    if vector["loss"] == "multi_similarity":
        options["mining_epsilon"] = options["eps"]
    if vector["loss"] in ("contrastive", "triplet_semihard"):
        assert options.pop("normalize") is True  # these always do
    if options.get("form") == "pml":
        options["form"] = "linear"
    if vector["params"] == ["P"]:
        options["centers_per_class"] = 2
    options.pop("eps", None)
    return options


@pytest.mark.parametrize("precision", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(
    "vector", [v for v in FILE["vectors"] if v["loss"] in KEYS], ids=lambda v: f"{v['loss']}-{v['hyper']}"
)
def test_value_and_gradient_norms(vector, precision):
    case = FILE["cases"][vector["case"]]
    x = torch.tensor(case["x"], dtype=precision, requires_grad=True)
    loss = build(vector["loss"], 4, 5, **options_of(vector)).to(precision)
    expected = {"x": vector["grad_x_norm"]}
    for name in vector["params"]:
        values = torch.tensor(case[name], dtype=precision)
        loss.centers.data = values if values.ndim == 3 else values[:, None]
        expected["centers"] = vector[f"grad_{name}_norm"]

    value = loss(x, torch.tensor(case["y"]))
    value.backward()

    tolerance = {"abs": 1e-9} if precision == torch.float64 else {"rel": 1e-3, "abs": 1e-6}
    assert value.item() == pytest.approx(vector["value"], **tolerance)
    assert x.grad.norm().item() == pytest.approx(expected["x"], **tolerance)
    if "centers" in expected:
        assert loss.centers.grad.norm().item() == pytest.approx(expected["centers"], **tolerance)


def test_every_registered_loss_has_a_vector():
    assert {v["loss"] for v in FILE["vectors"]} >= KEYS
