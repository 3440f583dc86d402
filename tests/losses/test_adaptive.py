"""Learned margins and hard prototype mining."""

import json
from pathlib import Path

import pytest
import torch

import dml_bench
from dml_bench.epoch import EpochContext
from dml_bench.losses import LOSSES, build
from dml_bench.losses.rivals import Rivals

VECTORS = json.loads(
    Path(dml_bench.__file__).with_name("testing").joinpath("loss_vectors.json").read_text(encoding="utf-8")
)
CASE = VECTORS["cases"]["A"]
C, D = 8, 5


def adaptiveface(seed=0, **options):
    torch.manual_seed(seed)
    return build("adaptiveface", C, D, **options).double()


def batch(seed=0, size=10):
    torch.manual_seed(seed)
    return torch.randn(size, D, dtype=torch.float64), torch.randint(0, C, (size,))


def test_vector():
    (vector,) = [v for v in VECTORS["vectors"] if v["loss"] == "adaptiveface"]
    loss = build("adaptiveface", 4, 5, scale=30.0, margin_weight=5.0).double()
    loss.centers.data = torch.tensor(CASE["W"], dtype=torch.float64)[:, None]
    loss.margins.data = torch.tensor(CASE["m_c"], dtype=torch.float64)
    x = torch.tensor(CASE["x"], dtype=torch.float64, requires_grad=True)
    value = loss(x, torch.tensor(CASE["y"]))
    value.backward()
    assert value.item() == pytest.approx(vector["value"], abs=1e-9)
    for name, tensor in (("x", x), ("W", loss.centers), ("m_c", loss.margins)):
        assert tensor.grad.norm().item() == pytest.approx(vector[f"grad_{name}_norm"], abs=1e-9)


@pytest.mark.parametrize("options", [{}, {"angular": True}, {"scale": 9.0, "margin_weight": 0.0}, {"candidates": 2}])
@pytest.mark.parametrize("seed", range(3))
def test_equals_plain_loops(stateful, options, seed):
    loss, (x, y) = adaptiveface(seed, **options), batch(seed)
    queues = loss.negatives.queues.tolist() if "candidates" in options else None
    expected = stateful.adaptiveface(
        x.tolist(), y.tolist(), loss.centers.tolist(), loss.margins.tolist(), **options, queues=queues
    )
    assert loss(x, y).item() == pytest.approx(expected, rel=1e-12)


def test_gradient_of_a_margin():
    loss, (x, y) = adaptiveface(), batch()
    loss(x, y).backward()
    cosines = loss.class_scores(x) / 30
    logits = 30 * (cosines - torch.nn.functional.one_hot(y, C) * loss.margins)
    wrong = 1 - logits.softmax(dim=1).gather(1, y[:, None]).squeeze(1)
    expected = torch.stack([30 * wrong[y == c].sum() / len(y) - 20 / C for c in range(C)])
    torch.testing.assert_close(loss.margins.grad, expected)


def test_equal_margins_are_am_softmax_minus_a_constant():
    loss, (x, y) = adaptiveface(), batch()
    loss.margins.data.fill_(0.35)
    plain = build("am_softmax", C, D, margin=0.35).double()
    plain.centers = loss.centers
    torch.testing.assert_close(loss(x, y), plain(x, y) - 20 * 0.35)


def test_margins_start_apart_and_stay_in_bounds():
    loss = adaptiveface()
    assert ((loss.margins >= 0.3) & (loss.margins <= 0.4)).all()
    assert len(loss.margins.unique()) == C
    loss.margins.data[:2] = torch.tensor([-0.5, 1.5])
    loss.on_step()
    assert loss.margins[:2].tolist() == [0.0, 1.0]


def test_a_weight_that_drives_every_margin_to_one_is_told():
    with pytest.warns(UserWarning, match=r"margin_weight=30.0 is not below scale=30.0"):
        build("adaptiveface", C, D, margin_weight=30.0)


@pytest.mark.parametrize("candidates", [C - 1, C, 1000])
def test_all_classes_as_candidates_change_nothing(candidates):
    x, y = batch()
    loss, plain = adaptiveface(candidates=candidates), adaptiveface()
    assert torch.equal(loss(x, y), plain(x, y))


def test_only_candidates_get_a_gradient():
    loss, x, y = adaptiveface(candidates=2), batch()[0][:2], torch.tensor([3, 3])
    loss(x, y).backward()
    reached = loss.centers.grad.abs().sum(dim=(1, 2)) > 0
    assert reached.nonzero()[:, 0].tolist() == sorted([3, *loss.negatives.queues[3].tolist()])
    assert loss.negatives.candidate_classes(y).tolist() == reached.nonzero()[:, 0].tolist()


def test_first_rivals_have_the_most_similar_centers():
    loss = adaptiveface(candidates=3)
    directions = torch.nn.functional.normalize(loss.centers[:, 0])
    table = (directions @ directions.T).fill_diagonal_(-2)
    assert torch.equal(loss.negatives.queues, table.argsort(dim=1, descending=True)[:, :3])


def test_winners_join_in_front_and_push_the_oldest_out():
    rivals = Rivals(6, 3)
    rivals.queues = torch.tensor([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2], [0, 1, 2]])
    rows = [[0.5, 0.1, 0.9, 0.1, 0.9, 0.9], [0.5, 0.7, 0.2, 0.1, 0.0, 0.0], [0.1, 0.9, 0.0, 0.0, 0.1, 0.1]]
    scores = torch.tensor(rows)
    rivals(scores, scores[:, 0], torch.tensor([0, 0, 1]))
    before = rivals.queues.clone()
    rivals.join()
    assert rivals.queues[0].tolist() == [2, 1, 3]  # 4 and 5 took no part
    assert torch.equal(rivals.queues[1:], before[1:])  # right, or not in the batch

    rivals(scores, scores[:, 0], torch.tensor([0, 4, 4]))
    rivals.join()
    assert rivals.queues[0].tolist() == [2, 4, 1]
    assert rivals.queues[4].tolist() == [1, 0, 2]


def test_rivals_that_turned_away_leave():
    rivals = Rivals(4, 2)
    centers = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.1], [0.5, 0.5]])[:, None]
    rivals.refresh(centers)
    assert rivals.queues[0].tolist() == [1, 3]
    rivals.queues[0] = torch.tensor([2, 3])
    rivals.refresh(centers)
    assert rivals.queues[0].tolist() == [3, 1]


def test_queues_are_state_and_change_with_steps_and_epochs():
    loss, (x, y) = adaptiveface(candidates=2), batch()
    first = loss.negatives.queues.clone()
    loss(x, y)
    assert torch.equal(loss.negatives.queues, first)  # a forward pass alone learns nothing
    loss.on_step()
    second = loss.negatives.queues.clone()
    assert not torch.equal(second, first)
    other = adaptiveface(seed=1, candidates=2)
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other.negatives.queues, second)
    assert torch.equal(other(x, y), loss(x, y))
    loss.centers.data = torch.randn_like(loss.centers)
    loss.on_epoch_start(EpochContext(1, y, lambda dropout: x, torch.Generator()))
    assert not torch.equal(loss.negatives.queues, second)


def test_one_class_has_no_rivals():
    loss = build("adaptiveface", 1, D, candidates=5).double()
    loss(batch()[0], torch.zeros(10, dtype=torch.int64)).backward()
    loss.on_step()


def test_options():
    options = {o.name: o.default for o in LOSSES["adaptiveface"].options}
    assert options == {"scale": 30.0, "margin_weight": 20.0, "angular": False, "candidates": None}
