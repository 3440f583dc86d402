"""What must hold of the softmax and proxy family: identities between its losses, limits, bounds and symmetries."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dml_bench.losses import build, regularizers
from dml_bench.losses.ensemble import Hsic
from dml_bench.losses.margins import Angular, Combined, Multiplicative, PerClass, Target
from dml_bench.losses.negatives import among
from dml_bench.losses.numerics import chebyshev, falling_cosine
from dml_bench.losses.objectives import Bootstrap, softmax
from dml_bench.losses.regularizers import equidistant, uniform

COUNTS = torch.tensor([9, 1, 4, 30, 2])
EQUAL = torch.full((5,), 7)
CE, NO_BIAS = ("softmax_ce", {}), ("softmax_ce", {"bias": False})
FIXED = {"annealing": 0.0}
IDENTITIES = [
    (CE, ("focal", {"gamma": 0.0})),
    (CE, ("ohem", {"keep_ratio": 1.0})),
    (CE, ("class_balanced", {"beta": 0.0})),
    (CE, ("class_balanced", {"class_counts": EQUAL})),
    (NO_BIAS, ("l_softmax", {"margin": 1, **FIXED})),
    (NO_BIAS, ("sm_softmax", {"margin": 0.0})),
    (CE, ("sm_softmax", {"margin": 0.0, "bias": True})),
    (("w_softmax", {}), ("a_softmax", {"margin": 1, **FIXED})),
    (("a_softmax", FIXED), ("af_softmax", {"gamma": 0.0, **FIXED})),
    (("a_softmax", FIXED), ("uniformface", {"uniform_weight": 0.0, **FIXED})),
    (("sm_softmax", {}), ("em_softmax", {"members": 1})),
    (("arcface", {}), ("subcenter_arcface", {"centers_per_class": 1})),
    (("arcface", {}), ("nra", {"beta": 1.0})),
    (("arcface", {"overflow": "continuous"}), ("combined_margin", {"m2": 0.5, "m3": 0.0, "overflow": "monotone"})),
    (("arcface", {"overflow": "none"}), ("combined_margin", {"m2": 0.5, "m3": 0.0})),
    (("am_softmax", {"scale": 64.0}), ("combined_margin", {"m2": 0.0, "m3": 0.35})),
    (("norm_softmax", {"scale": 64.0}), ("combined_margin", {"m2": 0.0, "m3": 0.0})),
    (("a_softmax", {"scale": 64.0, **FIXED}), ("combined_margin", {"m1": 4, "m2": 0, "m3": 0, "overflow": "monotone"})),
    (("norm_softmax", {"scale": 30.0}), ("sv_softmax", {"t": 1.0})),
    (("am_softmax", {}), ("sv_am_softmax", {"t": 1.0})),
    (("arcface", {"scale": 30.0}), ("sv_arc_softmax", {"t": 1.0})),
    (("norm_softmax", {"scale": 0.5 * math.log(4 / math.expm1(1e-4))}), ("coco", {})),
]


def agree(batch, first, second, **tolerance):
    second.load_state_dict(first.state_dict())
    results = []
    for loss in (first, second):
        x = batch.x.clone().requires_grad_()
        value = loss(x, batch.y)
        results.append((value, *torch.autograd.grad(value, [x, loss.centers])))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


@pytest.mark.parametrize(("first", "second"), IDENTITIES, ids=str)
def test_two_names_for_one_loss(make, batch, first, second):
    losses = [make(key, **{"class_counts": COUNTS, **options}) for key, options in (first, second)]
    agree(batch, *losses, rtol=1e-9, atol=1e-9)


def test_subcenters_without_margin_are_hardtriple(make, batch):
    sub = make("subcenter_arcface", margin=0.0, scale=20.0)
    agree(batch, sub, make("hardtriple", centers_per_class=3, margin=0.0))


def test_equal_learned_margins_are_am_softmax_less_their_reward(make, batch):
    plain, learned = make("am_softmax", margin=0.2), make("proxy", margin="per_class", scale=30.0)
    rewarded = make("proxy", margin="per_class", scale=30.0, regularizer={"mean_margin": 5.0})
    for loss in (learned, rewarded):
        loss.centers.data = plain.centers.data.clone()
        loss.margins.data.fill_(0.2)
    value = plain(batch.x, batch.y)
    torch.testing.assert_close(learned(batch.x, batch.y), value)
    torch.testing.assert_close(rewarded(batch.x, batch.y), value - 5 * 0.2)


def test_learned_margins_stay_between_0_and_1(make):
    loss = make("proxy", margin={"per_class": {"angular": True}}, scale=30.0)
    assert ((loss.margins >= 0.3) & (loss.margins <= 0.4)).all()
    loss.margins.data = torch.tensor([-1.0, 0.0, 0.5, 1.0, 7.0], dtype=torch.float64)
    loss.on_step()
    assert loss.margins.tolist() == [0, 0, 0.5, 1, 1]


def test_l2_softmax_with_unit_centers_is_norm_softmax(make, batch):
    norm, ranjan = make("norm_softmax", scale=16.0), make("l2_softmax", bias=False)
    norm.centers.data = torch.nn.functional.normalize(norm.centers.data, dim=-1)
    ranjan.load_state_dict(norm.state_dict())
    torch.testing.assert_close(ranjan(batch.x, batch.y), norm(batch.x, batch.y))


def test_a_softmax_is_l_softmax_on_unit_centers(make, batch):
    large = make("l_softmax", annealing=2.0)
    large.centers.data = torch.nn.functional.normalize(large.centers.data, dim=-1)
    sphere = make("a_softmax", annealing=2.0)
    sphere.load_state_dict(large.state_dict())
    torch.testing.assert_close(sphere(batch.x, batch.y), large(batch.x, batch.y))


def test_endless_lambda_takes_the_margin_away(make, batch):
    agree(batch, make("softmax_ce", bias=False), make("l_softmax", annealing=1e12), rtol=1e-8, atol=1e-8)


def test_class_weights_run_to_inverse_frequency(make, batch):
    loss = make("class_balanced", class_counts=COUNTS, beta=1 - 1e-9)
    rows = softmax(loss.class_scores(batch.x), batch.y)
    inverse = 1 / COUNTS.double()
    wanted = (5 * inverse / inverse.sum())[batch.y] * rows
    torch.testing.assert_close(loss(batch.x, batch.y), wanted.mean(), rtol=1e-6, atol=0)


@settings(max_examples=40, deadline=None)
@given(factor=st.floats(1, 6.3), whole=st.booleans())
def test_psi_falls_from_1_to_1_minus_2m_without_a_jump(factor, whole):
    factor = float(round(factor)) if whole else factor
    angle = torch.linspace(0, math.pi, 4001, dtype=torch.float64)
    margin = Multiplicative(margin=factor, annealing=build("l_softmax", 2, 2, annealing=0.0).margin.annealing)
    psi = angle.cos() + margin(Target(angle.cos()))
    assert psi[0] == 1
    assert (psi.diff() <= 1e-9).all()
    assert psi.diff().abs().max() < 2 * factor * math.pi / 4000
    torch.testing.assert_close(psi, falling_cosine(factor * angle), rtol=1e-6, atol=1e-6)
    if factor == round(factor):
        assert psi[-1].item() == pytest.approx(1 - 2 * factor)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
def test_the_gradient_of_psi_is_that_of_the_angle(factor):
    angle = torch.linspace(0.05, 3.1, 50, dtype=torch.float64)
    slopes = []
    for form in (lambda c: chebyshev(c, factor), lambda c: falling_cosine(factor * Target(c).angle)):
        cosine = angle.cos().requires_grad_()
        slopes.append(torch.autograd.grad(form(cosine).sum(), cosine)[0])
    torch.testing.assert_close(*slopes)
    ends = torch.tensor([-1.0, 1.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(chebyshev(ends, factor).sum(), ends)
    assert slope.abs().tolist() == pytest.approx([factor**2] * 2)


def test_the_angle_is_exact_and_flat_at_its_ends():
    cosine = torch.tensor([-1.5, -1.0, 0.0, 1.0, 1.5], dtype=torch.float64, requires_grad=True)
    angle = Target(cosine).angle
    (slope,) = torch.autograd.grad(angle.sum(), cosine)
    assert angle.tolist() == [math.pi, math.pi, math.pi / 2, 0, 0]
    assert slope.tolist() == [0, 0, -1, 0, 0]


@pytest.mark.parametrize("part", [Angular(margin=0.4), Multiplicative(), Combined(), PerClass(angular=True)])
def test_margins_give_lengths_back(part):
    cosine, lengths = torch.linspace(-0.99, 0.99, 7), torch.linspace(0.1, 9, 7)
    margins = torch.full((7,), 0.4)
    bare = part(Target(cosine, margins=margins))
    torch.testing.assert_close(part(Target(lengths * cosine, lengths, margins=margins)), lengths * bare)


@pytest.mark.parametrize("key", ["sm_softmax", "am_softmax", "sv_am_softmax", "sv_arc_softmax", "subcenter_arcface"])
def test_a_larger_margin_never_lowers_the_loss_of_the_family(make, batch, key):
    values = [make(key, margin=m)(batch.x, batch.y).item() for m in (0.0, 0.1, 0.3, 0.8, 1.5)]
    assert values == sorted(values)


def test_soft_margins_cost_no_more_than_the_margin(make, batch):
    costs = [make("sm_softmax", margin=m)(batch.x, batch.y).item() for m in (0.0, 0.7)]
    assert 0 <= costs[1] - costs[0] <= 0.7


def test_mining_fewer_never_lowers_and_larger_t_never_lowers(make, batch):
    ratios = [make("ohem", keep_ratio=r)(batch.x, batch.y).item() for r in (1.0, 0.8, 0.5, 0.2)]
    assert ratios == sorted(ratios)
    for key in ("sv_softmax", "sv_am_softmax", "sv_arc_softmax"):
        values = [make(key, t=t)(batch.x, batch.y).item() for t in (1.0, 1.1, 1.5, 3.0)]
        assert values == sorted(values)


def test_ohem_keeps_the_floor_of_the_share_and_nothing_else_gets_a_gradient(make):
    x = torch.randn(100, 6, dtype=torch.float64, requires_grad=True)
    make("ohem", keep_ratio=0.29)(x, torch.arange(100) % 5).backward()
    assert (x.grad.abs().sum(dim=1) > 0).sum() == 29


def test_the_gradient_of_the_focal_loss_by_the_own_logit():
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    rows = softmax(logits, labels)
    p = (-rows).exp()
    (gradient,) = torch.autograd.grad(((1 - p) ** 2 * rows).sum(), logits)
    p, own = p.detach(), gradient.gather(1, labels[:, None]).squeeze(1)
    torch.testing.assert_close(own, (1 - p) ** 2 * (2 * p * p.log() + p - 1))


@pytest.mark.parametrize("gamma", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_focal_gradients_are_finite_for_sure_samples(gamma, dtype):
    loss = build("focal", 3, 3, gamma=gamma).to(dtype)
    loss.centers.data = 100 * torch.eye(3, dtype=dtype)[:, None]
    x = (50 * torch.eye(3, dtype=dtype)).requires_grad_()
    value = loss(x, torch.arange(3))
    value.backward()
    assert value == 0
    assert x.grad.isfinite().all()
    assert loss.centers.grad.isfinite().all()


def test_bootstrap_with_full_trust_is_softmax():
    logits, labels = torch.randn(4, 5), torch.tensor([0, 3, 3, 1])
    torch.testing.assert_close(Bootstrap(beta=1.0)(logits, labels), softmax(logits, labels))
    guesses = logits.argmax(dim=1)
    torch.testing.assert_close(Bootstrap(beta=0.0)(logits, labels), softmax(logits, guesses))


def test_c_triplet_costs_nothing_iff_the_order_has_the_margin(make):
    loss = make("c_triplet", num_classes=2, dim=2, margin=0.8)
    loss.centers.data = torch.tensor([[[1.0, 0.0]], [[-1.0, 0.0]]], dtype=torch.float64)
    x = torch.tensor([[1.0, 0.0], [0.1, 1.0]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(x, torch.tensor([0, 0])), x)
    assert (gradient[0] == 0).all()
    assert (gradient[1] != 0).any()


def simplex(c):
    return (torch.eye(c, dtype=torch.float64) - 1 / c)[:, None]


def test_even_centers_have_the_known_spread():
    for c in (2, 5, 9):
        assert uniform(simplex(c), normalize=True).item() == pytest.approx(1 / (1 + math.sqrt(2 * c / (c - 1))))
        assert equidistant(simplex(c)).item() == pytest.approx(0, abs=1e-15)
    assert equidistant(torch.randn(4, 2, 3)).item() > 0
    assert uniform(torch.ones(1, 1, 3), normalize=True) == equidistant(torch.ones(1, 1, 3)) == 0


def test_spread_in_blocks_is_the_same(monkeypatch):
    centers = torch.randn(7, 2, 3, dtype=torch.float64, requires_grad=True)
    whole = uniform(centers, normalize=False)
    monkeypatch.setattr(regularizers, "BLOCK", 45)  # 3 of 14 rows at a time
    parts = uniform(centers, normalize=False)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(*(torch.autograd.grad(value, centers)[0] for value in (parts, whole)))


def test_coincident_centers_do_not_break_the_spread():
    centers = torch.ones(3, 2, 4, requires_grad=True)
    for value in (uniform(centers, normalize=True), equidistant(centers)):
        (gradient,) = torch.autograd.grad(value, centers)
        assert gradient.isfinite().all()


def test_diversity_ignores_a_common_shift_and_a_rotation_of_one_member():
    torch.manual_seed(0)
    heads = torch.randn(2, 5, 1, 6, dtype=torch.float64)
    value = Hsic()(heads)
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    torch.testing.assert_close(Hsic()(torch.stack([heads[0] @ rotation, heads[1]])), value)
    torch.testing.assert_close(Hsic()(heads + torch.randn(2, 1, 1, 6, dtype=torch.float64)), value)
    torch.testing.assert_close(Hsic()(2 * heads), 16 * value)
    assert value > 0


def test_members_start_apart_and_answer_by_their_mean(make, clustered):
    loss = make("em_softmax", members=3)
    assert loss.centers.shape == (3, 5, 1, 6)
    assert not torch.equal(loss.centers[0], loss.centers[1])
    single = make("softmax_ce", bias=False)
    single.centers.data = loss.centers.data.mean(dim=0)
    torch.testing.assert_close(loss.class_scores(clustered.x), single.class_scores(clustered.x))


def test_masked_classes_leave_the_race():
    scores = torch.randn(3, 5, requires_grad=True)
    allowed = torch.tensor([True, True, False, True, False])
    labels = torch.tensor([0, 1, 3])
    (gradient,) = torch.autograd.grad(softmax(among(scores, allowed), labels).sum(), scores)
    assert (gradient[:, ~allowed] == 0).all()
    everyone = softmax(among(scores, torch.ones(5, dtype=torch.bool)), labels)
    torch.testing.assert_close(everyone, softmax(scores, labels))


def test_rare_classes_only_spread_and_frequent_ones_only_classify(make):
    loss = make("unequal_training", class_counts=COUNTS)
    assert loss.frequent.tolist() == [False, False, False, True, False]  # the mean is 9.2
    x = torch.randn(6, 6, dtype=torch.float64)
    rare = loss.terms(x, torch.tensor([0, 0, 1, 1, 2, 2]))
    assert rare["objective"] == 0
    assert rare["dispersion"] > 0
    assert loss.terms(x, torch.full((6,), 3))["dispersion"] == 0


def test_sigmoid_forms_start_at_the_prior():
    for base in ("sigmoid", "focal"):
        loss = build("class_balanced", 5, 6, base=base, class_counts=COUNTS)
        torch.testing.assert_close(loss.bias.detach().sigmoid(), torch.full((5,), 0.2))
