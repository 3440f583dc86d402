import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dml_bench.models.pooling import Pool

SIDES = st.integers(1, 5)


@given(st.sampled_from(["mean", "max", "mean_max"]), SIDES, SIDES, st.integers(0, 2**31))
def test_pooling_is_what_numpy_says(how, height, width, seed):
    maps = np.random.default_rng(seed).normal(size=(2, 3, height, width)).astype(np.float32)
    flat = maps.reshape(2, 3, -1)
    expected = {"mean": flat.mean(2), "max": flat.max(2), "mean_max": flat.mean(2) + flat.max(2)}[how]
    np.testing.assert_allclose(Pool(how)(torch.from_numpy(maps)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", ["mean", "max", "mean_max"])
def test_gradients_of_the_pooling(how):
    maps = torch.rand(2, 3, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Pool(how), maps)
