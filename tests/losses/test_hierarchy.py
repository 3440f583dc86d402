"""The hierarchical triplet loss: formula, tree and its life over epochs."""

import json
from pathlib import Path

import pytest
import torch

import dml_bench
from dml_bench.epoch import EpochContext
from dml_bench.losses import LOSSES, Task, build
from dml_bench.losses.hierarchy import HierarchicalTriplet, hierarchical_triplet, tree
from dml_bench.search.classes import class_means

VECTORS = json.loads(
    Path(dml_bench.__file__).with_name("testing").joinpath("loss_vectors.json").read_text(encoding="utf-8")
)
CASE = VECTORS["cases"]["A"]


def case(name):
    return torch.tensor(CASE[name], dtype=torch.float64, requires_grad=True)


def training_set(classes=7, dim=4, seed=0):
    torch.manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(torch.randint(1, 6, (classes,)))
    middles = torch.randn(classes, dim, dtype=torch.float64)
    return middles[labels] + 0.4 * torch.randn(len(labels), dim, dtype=torch.float64), labels


def context(embeddings, labels):
    return EpochContext(1, labels, lambda dropout: embeddings, torch.Generator().manual_seed(0))


def test_vector():
    (vector,) = [v for v in VECTORS["vectors"] if v["loss"] == "htl"]
    x, joins, spreads, y = case("x"), case("dH"), case("s_c"), torch.tensor(CASE["y"])
    value = hierarchical_triplet(x, y, 0.1 + joins[y][:, y] - spreads[y][:, None])
    value.backward()
    assert value.item() == pytest.approx(vector["value"], abs=1e-9)
    for name, tensor in (("x", x), ("dH", joins), ("s_c", spreads)):
        assert tensor.grad.norm().item() == pytest.approx(vector[f"grad_{name}_norm"], abs=1e-9)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_loss_and_tree_equal_plain_loops(stateful, squared, seed):
    embeddings, labels = training_set(seed=seed)
    loss = HierarchicalTriplet(Task(7, 4), 0.1, squared).double()
    loss.on_epoch_start(context(embeddings, labels))
    joins, spreads = stateful.class_tree(embeddings.tolist(), labels.tolist(), 7, 16)

    torch.testing.assert_close(loss.joins(torch.arange(7)), torch.tensor(joins, dtype=torch.float64))
    torch.testing.assert_close(loss.spreads, torch.tensor(spreads, dtype=torch.float64))
    assert len({threshold for row in joins for threshold in row}) > 3

    x = torch.randn(9, 4, dtype=torch.float64)
    y = torch.tensor([0, 0, 1, 1, 1, 5, 5, 2, 6])
    expected = stateful.htl(x.tolist(), y.tolist(), joins, spreads, 0.1, squared)
    assert loss(x, y).item() == pytest.approx(expected, rel=1e-10)


def test_constant_gap_is_half_the_triplet_loss_over_all_triplets(stateful):
    x, y = training_set()
    value = build("htl", 7, 4, margin=0.3).double()(x, y)  # without a tree the gap is the margin
    assert value.item() == pytest.approx(stateful.htl(x.tolist(), y.tolist(), [[0.0] * 7] * 7, [0.0] * 7, 0.3))


def test_nodes_nest_and_end_in_one():
    embeddings, labels = training_set(classes=20)
    means, _ = class_means(torch.nn.functional.normalize(embeddings), labels, 20)
    nodes = tree(means, torch.linspace(0.0, 4.0, 17, dtype=torch.float64))
    together = nodes[:, :, None] == nodes[:, None, :]
    assert (together[1:] >= together[:-1]).all()
    assert together[-1].all()
    assert torch.equal(together[0], torch.eye(20, dtype=torch.bool))


def test_opposite_collapsed_classes_meet_at_the_top():
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    y = torch.tensor([0, 0, 1, 1])
    loss = build("htl", 2, 2)
    loss.on_epoch_start(context(x, y))
    assert loss.joins(y)[0].tolist() == [0.0, 0.0, 4.0, 4.0]


def test_the_tree_is_state_and_changes_the_loss():
    embeddings, labels = training_set()
    loss, x, y = build("htl", 7, 4).double(), *training_set(seed=1)
    before = loss(x, y)
    loss.on_epoch_start(context(embeddings, labels))
    after = loss(x, y)
    assert before != after
    other = build("htl", 7, 4).double()
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other(x, y), after)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2], [3]])
def test_without_a_triplet_it_is_a_zero_that_backward_can_start_from(labels):
    x = torch.randn(len(labels), 4, requires_grad=True)
    value = build("htl", 7, 4)(x, torch.tensor(labels))
    value.backward()
    assert value == 0
    assert x.grad.tolist() == torch.zeros_like(x).tolist()


def test_options_are_those_of_the_paper():
    assert {o.name: o.default for o in LOSSES["htl"].options} == {"margin": 0.1, "squared": False}
