"""Every loss against plain loops, on batches with singletons, absent classes, single classes and extreme angles."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dml_bench.testing import variants

KEYS = (
    "norm_softmax",
    "am_softmax",
    "arcface",
    "proxy_nca",
    "proxy_nca_pp",
    "softtriple",
    "hardtriple",
    "contrastive",
    "triplet_batch_hard",
    "triplet_semihard",
    "multi_similarity",
)
VARIANTS = {key: variants.VARIANTS[key] for key in KEYS}


def expected(oracle, key, loss, x, y, options):
    centers = loss.centers.tolist() if hasattr(loss, "centers") else None
    return getattr(oracle, key)(x.tolist(), y.tolist(), centers, **options)


def test_every_loss_has_plain_loops(oracle, key):
    assert key in oracle.__all__ or key == "proxy"  # which is whatever a recipe makes of it


@pytest.mark.parametrize(("key", "options"), [(k, o) for k, variants in VARIANTS.items() for o in variants], ids=str)
def test_equals_plain_loops(oracle, make, batch, key, options):
    loss = make(key, **options)
    value = loss(batch.x, batch.y).item()
    assert value == pytest.approx(expected(oracle, key, loss, batch.x, batch.y, options), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize(
    "key", [k for k in VARIANTS if k not in ("contrastive", "multi_similarity") and k[:7] != "triplet"]
)
def test_equals_plain_loops_at_extreme_angles(oracle, make, key):
    loss = make(key)
    first = loss.centers.detach()[:, 0]
    x = torch.cat([first, -first, 1e-3 * first, 1e6 * first.roll(1, 0), first + 1e-7 * torch.randn_like(first)])
    y = torch.arange(len(first)).repeat(5)
    # cos(theta + m) has an infinite slope at theta = 0, where rounding of the cosine becomes its square root
    tolerance = 1e-5 if key == "arcface" else 1e-9
    value = loss(x, y).item()
    assert value == pytest.approx(expected(oracle, key, loss, x, y, {}), rel=tolerance, abs=tolerance)


def test_mining_that_leaves_one_pair_of_each_kind_still_counts(oracle, make):
    x = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.3, 0.95]], dtype=torch.float64)
    y = torch.tensor([0, 0, 1])
    value = make("multi_similarity", num_classes=2, dim=2, mining_epsilon=0.05)(x, y).item()
    assert value == pytest.approx(oracle.multi_similarity(x.tolist(), y.tolist(), mining_epsilon=0.05), rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    key=st.sampled_from(sorted(VARIANTS)),
    variant=st.integers(0, 100),
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=9),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_any_batch_equals_plain_loops(oracle, key, variant, labels, seed, data):
    from dml_bench.losses import build

    options = VARIANTS[key][variant % len(VARIANTS[key])]
    torch.manual_seed(seed)
    loss = build(key, 4, 3, **options).double()
    x = torch.randn(len(labels), 3, dtype=torch.float64) * data.draw(st.sampled_from([1e-3, 1.0, 30.0]))
    y = torch.tensor(labels)
    value = loss(x, y).item()
    assert value == pytest.approx(expected(oracle, key, loss, x, y, options), rel=1e-8, abs=1e-8)
