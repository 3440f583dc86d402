"""Margins and penalties from passes with dropout."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import dml_bench
from dml_bench.epoch import EpochContext
from dml_bench.errors import DataError, OptionError
from dml_bench.losses import LOSSES, build
from dml_bench.losses.margins import MeasuredPerClass, Target
from dml_bench.losses.uncertainty import class_margins, error_probability, penalties

VECTORS = json.loads(
    Path(dml_bench.__file__).with_name("testing").joinpath("loss_vectors.json").read_text(encoding="utf-8")
)
CASE = VECTORS["cases"]["A"]
C, D, N = 4, 5, 12


@pytest.fixture
def passes():
    torch.manual_seed(0)
    middle, width = torch.randn(N, D, dtype=torch.float64), torch.rand(N, 1, dtype=torch.float64)
    return middle + 0.5 * width * torch.randn(7, N, D, dtype=torch.float64)


@pytest.fixture
def labels():
    return torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2])  # class 3 has no image


@pytest.fixture
def centers():
    torch.manual_seed(1)
    return torch.randn(C, D, dtype=torch.float64)


@pytest.fixture
def context(passes, labels):
    turn = iter([*passes])
    return EpochContext(1, labels, lambda dropout: next(turn), torch.Generator())


def test_vector(stateful):
    (vector,) = [v for v in VECTORS["vectors"] if v["loss"] == "uncertainty_softmax"]
    tensors = {n: torch.tensor(CASE[n], dtype=torch.float64, requires_grad=True) for n in ("x", "W", "m_unc", "pen")}
    x, w, margins, penalty = tensors.values()
    y = torch.tensor(CASE["y"])
    logits = x @ w.T
    own, lengths = logits.gather(1, y[:, None]).squeeze(1), x.norm(dim=1) * w[y].norm(dim=1)
    change = MeasuredPerClass(weight=0.5)(Target(own, lengths, margins=margins[y], penalty=penalty))
    value = torch.nn.functional.cross_entropy(logits.scatter_add(1, y[:, None], change[:, None]), y)
    value.backward()
    assert value.item() == pytest.approx(vector["value"], abs=1e-9)
    for name, tensor in tensors.items():
        assert tensor.grad.norm().item() == pytest.approx(vector[f"grad_{name}_norm"], abs=1e-9)

    loss = build("uncertainty_softmax", 4, 5).double()
    loss.centers.data = w.detach()[:, None]
    loss.class_margins, loss.penalties = margins.detach(), penalty.detach()
    assert loss(x, y, torch.arange(6)).item() == pytest.approx(vector["value"], abs=1e-9)
    plain = stateful.uncertainty_softmax(
        x.tolist(), y.tolist(), w[:, None].tolist(), margins.tolist(), penalty.tolist()
    )
    assert plain == pytest.approx(vector["value"], abs=1e-9)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_margins_equal_plain_loops(stateful, passes, labels, noise):
    found = class_margins(passes, labels, C, 3.0, noise)
    expected = stateful.class_margins(passes.tolist(), labels.tolist(), C, 3.0, noise)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)
    assert found.max() == 3.0
    assert found[3] == 1.0


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("competitor", ["hardest", "sum", "count"])
@pytest.mark.parametrize("block", [1, 1 << 22])
def test_penalties_equal_plain_loops(stateful, monkeypatch, passes, labels, centers, competitor, noise, block):
    monkeypatch.setattr("dml_bench.losses.uncertainty.BLOCK", block)
    found = penalties(passes, labels, centers, competitor, noise)
    expected = stateful.penalties(passes.tolist(), labels.tolist(), centers.tolist(), competitor, noise)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)
    assert ((found >= 0) & (found <= 1)).all()
    assert len(found.unique()) >= 4


def test_hardest_is_below_the_sum(passes, labels, centers):
    low, high = (penalties(passes, labels, centers, c) for c in ("hardest", "sum"))
    assert (low <= high + 1e-12).all()


def test_error_probability_is_that_of_a_normal_variable():
    mean, deviation = torch.tensor([0.7, -0.7, 0.0, 0.0, 1.0, -1.0]), torch.tensor([1.3, 1.3, 2.0, 0.0, 0.0, 0.0])
    found = error_probability(mean, deviation)
    draws = 0.7 + 1.3 * torch.randn(400_000, generator=torch.Generator().manual_seed(0))
    assert found[0].item() == pytest.approx((draws > 0).float().mean().item(), abs=5e-3)
    assert found[1:].tolist() == pytest.approx([1 - found[0].item(), 0.5, 0.5, 1.0, 0.0])
    wider = error_probability(torch.full((5,), -1.0), torch.tensor([0.1, 0.5, 1.0, 10.0, 1e6]))
    assert (wider.diff() > 0).all()
    assert wider[-1].item() == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("competitor", ["hardest", "sum", "count"])
def test_an_epoch_renews_margins_and_penalties(stateful, context, passes, labels, competitor):
    loss = build("uncertainty_softmax", C, D, passes=7, competitor=competitor).double()
    x, indices = passes.mean(0), torch.arange(N)
    before = loss(x, labels, indices)
    plain = torch.nn.functional.cross_entropy(x @ loss.centers[:, 0].T, labels)
    torch.testing.assert_close(before, plain)  # no margin, no penalty

    loss.on_epoch_start(context)
    groups, y = loss.centers.tolist(), labels.tolist()
    margins = stateful.class_margins(passes.tolist(), y, C, 3.0)
    penalty = stateful.penalties(passes.tolist(), y, [g[0] for g in groups], competitor)
    expected = stateful.uncertainty_softmax(x.tolist(), y, groups, margins, penalty)
    after = loss(x, labels, indices)
    assert after.item() == pytest.approx(expected, rel=1e-9)
    assert after > before

    other = build("uncertainty_softmax", C, D).double()
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other(x, labels, indices), after)
    with pytest.raises(DataError, match=r"indices must lie in \[0, 12\).*not 12"):
        loss(x, labels, indices + 1)


def test_margins_of_one_and_no_penalty_are_a_plain_softmax_and_equal_ones_are_l_softmax(passes, labels):
    x = passes[0]
    loss, wide = (build("uncertainty_softmax", C, D, penalty_weight=0.0).double() for _ in range(2))
    wide.centers = loss.centers
    wide.class_margins = torch.full((C,), 3.0, dtype=torch.float64)
    l_softmax = build("l_softmax", C, D, margin=3, annealing=0.0).double()
    l_softmax.centers = loss.centers
    torch.testing.assert_close(wide(x, labels), l_softmax(x, labels))
    torch.testing.assert_close(loss(x, labels), torch.nn.functional.cross_entropy(loss.class_scores(x), labels))


def test_without_variance_every_margin_is_one(labels):
    passes = torch.ones(3, N, D)
    assert class_margins(passes, labels, C, 3.0).tolist() == [1.0] * C


def test_the_penalty_raises_the_loss():
    target = Target(torch.tensor([0.5]), torch.tensor([2.0]), margins=torch.tensor([1.7]), penalty=torch.tensor([0.3]))
    margin = MeasuredPerClass(weight=0.5)
    change = margin(replace(target, penalty=None))
    assert (change - margin(target)).item() == pytest.approx(2.0 * 0.5 * 0.3)
    assert math.isclose(0.5 + change.item(), 2.0 * math.cos(1.7 * math.acos(0.25)), rel_tol=1e-5)


def test_options():
    options = {o.name: o.default for o in LOSSES["uncertainty_softmax"].options}
    assert options == {"margin_max": 3.0, "penalty_weight": 0.5, "passes": 10, "competitor": "hardest"}
    for wrong in ({"passes": 1}, {"margin_max": 0.5}, {"competitor": "nearest"}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            build("uncertainty_softmax", C, D, **wrong)
