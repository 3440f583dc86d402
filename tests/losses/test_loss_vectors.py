"""Values and gradient norms that several independent implementations agree on."""

import pytest
import torch

from dml_bench.losses import LOSSES
from dml_bench.testing import vectors


@pytest.mark.parametrize("vector", vectors.load(), ids=str)
def test_value_and_gradient_norms(vector):
    assert max(vectors.errors(vector).values()) < 1e-9
    sizes = {"value": abs(vector.value), **vector.norms}
    for name, error in vectors.errors(vector, torch.float32).items():
        assert error <= 1e-6 + 1e-3 * sizes[name]


def test_every_registered_loss_has_a_vector():
    assert {v.loss for v in vectors.load()} | {"unequal_training", "proxy", "nra_two_stage"} >= {
        entry.name for entry in LOSSES
    }
