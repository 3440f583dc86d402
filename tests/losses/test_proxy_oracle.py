"""The softmax and proxy family against plain loops: every option, extreme angles, any number of steps."""

import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dml_bench.losses import build
from dml_bench.losses.annealing import Annealing

COUNTS = torch.tensor([9, 1, 4, 30, 2])
ANNEALED = [{"annealing": a, "margin": m} for a in (0.0, 5.0) for m in (1, 2, 3, 4, 5, 1.5, 2.7)]
VARIANTS = {
    "softmax_ce": [{}, {"bias": False}],
    "w_softmax": [{}],
    "l2_softmax": [{}, {"scale": 7.0, "learn_scale": True}, {"bias": False}],
    "coco": [{}, {"epsilon": 0.1}, {"centroids": "batch"}],
    "c_contrastive": [{}, {"margin": 3.0}],
    "c_triplet": [{}, {"hardest_only": True}, {"margin": 0.1}],
    "ohem": [{}, {"keep_ratio": 0.3}, {"keep_ratio": 0.3, "threshold": 0.25}, {"keep_ratio": 1.0, "bias": False}],
    "focal": [{}, {"gamma": 0.5}, {"gamma": 0.0, "bias": False}, {"alpha": 0.25}, {"alpha": [1.0, 2.0, 0.5, 0.0, 3.0]}],
    "class_balanced": [{}, {"beta": 0.9}, {"base": "sigmoid"}, {"base": "focal", "beta": 0.0}, {"bias": False}],
    "nra": [{}, {"beta": 0.5, "margin": 0.2, "scale": 10.0, "overflow": "continuous"}],
    "center_dispersed": [{}, {"weight": 5.0}],
    "unequal_training": [{}, {"weight": 3.0, "scale": 5.0}],
    "sv_softmax": [{}, {"t": 1.0}, {"t": 3.0, "scale": 5.0}],
    "sv_am_softmax": [{}, {"margin": 0.1, "t": 1.5}],
    "sv_arc_softmax": [{}, {"margin": 0.1, "t": 1.5}, {"margin": 3.0}],
    "l_softmax": [{}, *ANNEALED],
    "a_softmax": [{}, *ANNEALED, {"scale": 30.0, "annealing": {"base": 10.0}}],
    "af_softmax": [{}, {"gamma": 0.5, "annealing": 0.0}, {"scale": 8.0}],
    "uniformface": [{}, {"normalize": False, "annealing": 1.0}, {"uniform_weight": 0.0}],
    "uniform_loss": [{}, {"normalize": False, "weight": 3.0}],
    "sm_softmax": [{}, {"bias": True, "margin": 2.0}],
    "em_softmax": [{}, {"members": 3, "diversity_weight": 2.0}, {"members": 1}, {"diversity_weight": 0.0}],
    "combined_margin": [
        {"m1": m1, "m2": m2, "m3": 0.1, "overflow": o, "scale": 16.0}
        for m1, m2 in ((1.0, 0.3), (0.9, 0.4), (1.4, 0.0), (4.0, 0.0))
        for o in ("none", "monotone")
    ],
    "subcenter_arcface": [{}, {"overflow": "continuous", "centers_per_class": 1}],
    "affinity": [{}, {"centers_per_class": 3, "sigma": 2.0}, {"regularizer_weight": 0.0, "margin": 0.1}],
    "proxy_anchor": [{}, {"margin": 0.0, "scale": 4.0}],
}
CASES = [(key, options) for key, variants in VARIANTS.items() for options in variants]


def expected(oracle, key, loss, x, y, options):
    """Hand the plain loops what they ask for: options, and what the loss holds."""
    takes = inspect.signature(getattr(oracle, key)).parameters
    takes = {"beta", "margin", "scale", "overflow", *takes} if key == "unequal_training" else takes
    held = {name: tensor.tolist() for name, tensor in loss.state_dict().items()}
    known = {"class_counts": COUNTS.tolist(), **options, **held}
    return getattr(oracle, key)(
        x.tolist(), y.tolist(), **{"centers": None} | {n: v for n, v in known.items() if n in takes}
    )


@pytest.mark.parametrize(("key", "options"), CASES, ids=str)
def test_family_equals_plain_loops(oracle, make, batch, key, options):
    loss = make(key, class_counts=COUNTS, **options)
    wanted = expected(oracle, key, loss, batch.x, batch.y, options)
    assert loss(batch.x, batch.y).item() == pytest.approx(wanted, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize(("key", "options"), CASES, ids=str)
def test_family_equals_plain_loops_at_extreme_angles(oracle, make, key, options):
    loss = make(key, class_counts=COUNTS, **options)
    first = loss.centers.detach() if hasattr(loss, "centers") else torch.eye(5, 6, dtype=torch.float64)
    first = first.reshape(-1, *first.shape[-3:])[0] if first.ndim == 4 else first
    first = first[:, 0] if first.ndim == 3 else first
    x = torch.cat([first, -first, 1e-3 * first, 1e3 * first.roll(1, 0), first + 1e-7 * torch.randn_like(first)])
    y = torch.arange(5).repeat(5)
    # Where the slope by the angle is not 0 at 0 or pi, rounding of the cosine becomes its square root.
    rough = key in ("nra", "unequal_training", "sv_arc_softmax", "combined_margin", "subcenter_arcface") or (
        options.get("margin", 4) % 1 and key in ("l_softmax", "a_softmax")
    )
    wanted = expected(oracle, key, loss, x, y, options)
    assert loss(x, y).item() == pytest.approx(wanted, rel=1e-5 if rough else 1e-9, abs=1e-5 if rough else 1e-9)


@settings(max_examples=60, deadline=None)
@given(
    case=st.sampled_from(CASES),
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=9),
    seed=st.integers(0, 2**31),
    size=st.sampled_from([1e-2, 1.0, 20.0]),
    steps=st.integers(0, 3000),
)
def test_any_batch_of_the_family_equals_plain_loops(oracle, case, labels, seed, size, steps):
    key, options = case
    torch.manual_seed(seed)
    loss = build(key, 5, 3, class_counts=COUNTS, **options).double()
    if "steps" in dict(loss.named_buffers()):
        loss.steps += steps
    x, y = size * torch.randn(len(labels), 3, dtype=torch.float64), torch.tensor(labels)
    wanted = expected(oracle, key, loss, x, y, options)
    assert loss(x, y).item() == pytest.approx(wanted, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize(
    ("annealing", "step", "wanted"),
    [
        ({}, 1, 892.857142857),
        ({}, 100, 76.9230769231),
        ({}, 1000, 8.26446280992),
        ({}, 1658, 5.0010002000),
        ({}, 1659, 5.0),
        ({"gamma": 2.5e-5, "power": 35.0, "minimum": 0.0}, 10000, 0.4056),
    ],
)
def test_lambda_in_the_step(annealing, step, wanted):
    schedule = Annealing(**annealing)
    assert schedule.at(torch.tensor(step - 1)).item() == pytest.approx(wanted, rel=2e-4 if step == 10000 else 1e-9)


@pytest.mark.parametrize("key", ["l_softmax", "a_softmax", "af_softmax", "uniformface"])
def test_steps_lower_lambda_and_are_saved(make, clustered, key):
    loss = make(key)
    before = loss(clustered.x, clustered.y)
    for _ in range(200):
        loss.on_step()
    later = loss(clustered.x, clustered.y)
    assert later > before
    again = make(key, seed=1)
    again.load_state_dict(loss.state_dict())
    assert torch.equal(again(clustered.x, clustered.y), later)
    fixed = make(key, annealing=1000 / (1 + 0.12 * 201))
    assert fixed(clustered.x, clustered.y).item() == pytest.approx(later.item(), rel=1e-12)


def test_the_scale_of_coco_follows_from_the_number_of_classes():
    for classes, wanted in ((10, 5.7038), (100, 6.9028), (11318, 9.2722)):
        assert build("coco", classes, 4).scale == pytest.approx(wanted, abs=1e-3)
    assert build("coco", 10, 4, epsilon=3.4e-5).scale == pytest.approx(6.25, abs=0.01)


def test_the_scale_of_l2_softmax():
    assert [build("l2_softmax", classes, 4).scale for classes in (2, 200, 201)] == [16.0, 16.0, 32.0]
    with pytest.warns(UserWarning, match=r"scale=6 .* of 98 classes .* 6\.76"):
        build("l2_softmax", 98, 4, scale=6.0)
    assert math.log(9 * (11318 - 2)) == pytest.approx(11.53, abs=0.01)
