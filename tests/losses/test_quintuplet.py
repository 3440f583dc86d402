"""The quintuplet loss: formula, choice of tuples, and clusters over epochs."""

import json
from pathlib import Path

import pytest
import torch

import dml_bench
from dml_bench.epoch import EpochContext
from dml_bench.errors import DataError, OptionError
from dml_bench.losses import LOSSES, build
from dml_bench.losses.quintuplet import choose, cluster_count, quintuplet_costs

VECTORS = json.loads(
    Path(dml_bench.__file__).with_name("testing").joinpath("loss_vectors.json").read_text(encoding="utf-8")
)


def context(embeddings, labels):
    return EpochContext(1, labels, lambda dropout: embeddings, torch.Generator().manual_seed(0))


def test_vector(stateful):
    (vector,) = [v for v in VECTORS["vectors"] if v["loss"] == "quintuplet"]
    x = torch.tensor(VECTORS["cases"]["A"]["x"], dtype=torch.float64, requires_grad=True)
    hyper = vector["hyper"]
    margins = [hyper["g1"], hyper["g2"], hyper["g3"]]
    value = quintuplet_costs(x, torch.tensor(hyper["tuples"]), margins).sum(dim=1).mean()
    value.backward()
    assert value.item() == pytest.approx(vector["value"], abs=1e-9)
    assert x.grad.norm().item() == pytest.approx(vector["grad_x_norm"], abs=1e-9)
    assert stateful.quintuplet_of(x.tolist(), hyper["tuples"], margins) == pytest.approx(vector["value"], abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_equals_plain_loops(stateful, seed):
    torch.manual_seed(seed)
    x, y = torch.randn(16, 5, dtype=torch.float64), torch.randint(0, 4, (16,))
    clusters = torch.randint(0, 3, (30,))
    indices = torch.randperm(30)[:16]
    loss = build("quintuplet", 4, 5, margins=[0.1, 0.2, 0.4]).double()
    loss.clusters = clusters
    expected = stateful.quintuplet(x.tolist(), y.tolist(), clusters[indices].tolist(), [0.1, 0.2, 0.4])
    assert loss(x, y, indices).item() == pytest.approx(expected, rel=1e-12)
    expected = stateful.quintuplet(x.tolist(), y.tolist(), [0] * 16, [0.1, 0.2, 0.4])
    assert loss(x, y).item() == pytest.approx(expected, rel=1e-12)


def test_what_the_batch_lacks_is_absent():
    x = torch.tensor([0.0, 1.0, 3.0, 7.0])
    tuples = choose((x[:, None] - x).abs(), torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 0]))
    assert tuples.tolist() == [[0, 1, 2, 2, 3], [1, 0, 2, 2, 3], [2, -1, 1, 0, 3]]


def test_satisfied_order_costs_nothing():
    angles = torch.tensor([0.0, 0.3, 1.0, 1.6, 3.1])
    x = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert quintuplet_costs(x, torch.tensor([[0, 1, 2, 3, 4]]), [0.1, 0.1, 0.1]).tolist() == [[0.0, 0.0, 0.0]]


def test_clusters_are_found_within_classes_and_are_state():
    torch.manual_seed(0)
    labels = torch.arange(3).repeat_interleave(8)
    modes = torch.arange(24) % 2
    middles = torch.randn(3, 2, 6)
    embeddings = middles[labels, modes] + 0.01 * torch.randn(24, 6)
    loss = build("quintuplet", 3, 6)
    assert loss.clusters.shape == (0,)
    loss.on_epoch_start(context(embeddings, labels))
    for label in range(3):
        found, truth = loss.clusters[labels == label], modes[labels == label]
        assert torch.equal(found == found[0], truth == truth[0])

    other = build("quintuplet", 3, 6)
    other.load_state_dict(loss.state_dict())
    indices = torch.arange(24)
    assert torch.equal(other(embeddings, labels, indices), loss(embeddings, labels, indices))
    assert loss(embeddings, labels, indices) != loss(embeddings, labels)
    with pytest.raises(DataError, match=r"indices must lie in \[0, 24\).*not 24"):
        loss(embeddings, labels, indices + 1)


def test_number_of_clusters_grows_with_the_root():
    assert [cluster_count(n) for n in (1, 2, 4, 8, 18, 20, 60, 200)] == [1, 1, 1, 2, 3, 3, 5, 10]


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2], [1]])
def test_without_a_tuple_it_is_a_zero_that_backward_can_start_from(labels):
    x = torch.randn(len(labels), 4, requires_grad=True)
    value = build("quintuplet", 3, 4)(x, torch.tensor(labels))
    value.backward()
    assert value == 0
    assert x.grad.tolist() == torch.zeros_like(x).tolist()


def test_options():
    assert {o.name: o.default for o in LOSSES["quintuplet"].options} == {"margins": [0.1, 0.1, 0.1]}
    with pytest.raises(OptionError, match="margins"):
        build("quintuplet", 3, 4, margins=[0.1, 0.1])
    with pytest.raises(OptionError, match="margins"):
        build("quintuplet", 3, 4, margins=[0.1, 0.1, -0.1])
