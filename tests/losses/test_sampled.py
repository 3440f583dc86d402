"""Softmax over a random share of the classes: what is drawn, what it stands for, and that nothing else is touched."""

import numpy as np
import pytest
import torch

from dml_bench import losses
from dml_bench.data.dataset import ImageSet
from dml_bench.errors import DataError, OptionError
from dml_bench.losses import LOSSES
from dml_bench.losses.memory import check_memory
from dml_bench.models.embedder import build_embedder
from dml_bench.recipe.schema import Embedding, Training
from dml_bench.training.fit import fit

CLASSES, DIM = 40, 6
PLAIN = {
    "cosine": {"scale": 8.0},
    "linear": {"similarity": "dot", "bias": True, "learn_scale": True},
    "margin": {"margin": "angular", "scale": 16.0, "negatives": "support_vector"},
    "soft": {"centers": "soft", "centers_per_class": 3, "scale": 20.0, "weighting": ["focal", "class_weights"]},
    "annealed": {"similarity": "dot", "margin": {"multiplicative": 4}},
}


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return torch.randn(7, DIM, dtype=torch.float64), torch.tensor([3, 3, 17, 0, 39, 39, 17])


@pytest.mark.parametrize("parts", PLAIN.values(), ids=PLAIN.keys())
@pytest.mark.parametrize("share", [CLASSES - 4, 10**9])
def test_all_classes_are_the_plain_form(make, batch, parts, share):
    x, y = batch
    plain = make("proxy", CLASSES, DIM, **parts)
    sampled = make("proxy", CLASSES, DIM, sampled_classes=share, **parts)
    values, gradients = [], []
    for loss in (plain, sampled):
        z = x.clone().requires_grad_()
        values.append(loss(z, y))
        values[-1].backward()
        gradients.append([z.grad, *(p.grad.to_dense() for p in loss.parameters())])
    torch.testing.assert_close(values[1], values[0], rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(sampled.class_scores(x), plain.class_scores(x), rtol=0, atol=0)


def test_the_expected_partition_sum_is_the_full_one(make, batch):
    """The mean of 2,000 draws lies within five standard errors, and the mean loss about half the variance below."""
    x, y = batch
    x, y = x[:1], y[:1]
    loss = make("proxy", CLASSES, DIM, sampled_classes=20, scale=4.0)
    logits = loss.class_scores(x)[0].detach()
    full = logits.exp().sum()
    costs = []
    for _ in range(2000):
        costs.append(loss(x, y).detach())
        loss.on_step()
    costs = torch.stack(costs)
    sums = (costs + logits[y[0]]).exp()
    error = sums.std() / len(sums) ** 0.5
    assert error < 0.02 * full
    assert abs(sums.mean() - full) < 5 * error
    bias = costs.mean() - (full.log() - logits[y[0]])
    assert 0.4 < bias / (-sums.var() / (2 * full**2)) < 2.5


def test_draws_are_even_without_repetition_and_hold_the_batch(make, batch):
    loss = make("proxy", CLASSES, DIM, sampled_classes=6)
    _, y = batch
    own, seen = set(y.tolist()), torch.zeros(CLASSES)
    for _ in range(3000):
        classes, raised = loss.draw(y)
        loss.on_step()
        assert (classes.diff() > 0).all()
        assert own <= set(classes.tolist())
        assert len(classes) == len(own) + 6
        batchs_own = torch.isin(classes, y)
        assert (raised[batchs_own] == 0).all()
        torch.testing.assert_close(raised[~batchs_own].exp(), torch.full((6,), 36 / 6).double())
        seen[classes] += 1
    others = torch.tensor([c for c in range(CLASSES) if c not in own])
    expected = 3000 * 6 / 36
    assert ((seen[others] - expected).abs() < 5 * expected**0.5).all()


def test_a_loop_over_the_drawn_classes_gives_the_same_value(make, batch):
    x, y = batch
    loss = make("proxy", CLASSES, DIM, sampled_classes=6, scale=8.0, margin={"additive": 0.2})
    drawn = set(loss.draw(y)[0].tolist())
    cosines = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(loss.centers[:, 0]).T
    total = 0.0
    for row, label in zip(cosines, y.tolist(), strict=True):
        own = (8 * (row[label] - 0.2)).exp()
        inside = sum((8 * row[c]).exp() for c in set(y.tolist()) - {label})
        outside = sum((8 * row[c]).exp() for c in drawn - set(y.tolist()))
        total += (1 + (inside + 6.0 * outside) / own).log() / len(x)
    torch.testing.assert_close(loss(x, y), total)


def test_runs_repeat_and_go_on_from_their_state(make, batch):
    x, y = batch
    first, again = (make("proxy", CLASSES, DIM, sampled_classes=6) for _ in range(2))

    def run(loss, steps):
        values = []
        for _ in range(steps):
            values.append(loss(x, y).item())
            loss.on_step()
        return values

    values = run(first, 6)
    assert len(set(values)) == 6
    assert run(again, 3) == values[:3]
    other = make("proxy", CLASSES, DIM, seed=9, sampled_classes=6)
    other.load_state_dict(again.state_dict())
    assert run(other, 3) == values[3:]


def test_gradients_are_sparse_and_on_drawn_rows_only(make, batch):
    x, y = batch
    loss = make("proxy", CLASSES, DIM, sampled_classes=6, similarity="dot", bias=True)
    loss(x, y).backward()
    for parameter in (loss.centers, loss.bias):
        assert parameter.grad.is_sparse
        assert parameter.grad.shape == parameter.shape
        assert torch.equal(parameter.grad.coalesce().indices()[0], loss.draw(y)[0])


def test_numerical_gradient_and_precision(make, batch):
    x, y = batch
    loss = make("proxy", CLASSES, DIM, sampled_classes=6, scale=8.0)
    assert torch.autograd.gradcheck(lambda z: loss(z, y), x.requires_grad_())
    value = loss.float()(x.detach(), y)
    assert value.dtype == torch.float64
    assert loss(x.detach().float(), y).dtype == torch.float32


def test_pixels_are_samples_too(make):
    loss = make("proxy", CLASSES, DIM, sampled_classes=6)
    x = torch.randn(2, DIM, 3, 3, dtype=torch.float64)
    y = torch.randint(CLASSES, (2, 3, 3))
    torch.testing.assert_close(loss(x, y), loss(x.movedim(1, -1).flatten(0, 2), y.flatten()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "nca"}, "sampled_classes: raises .* objective softmax only"),
        ({"members": 2}, "sampled_classes: draws for one head, not 2"),
        ({"regularizer": ["uniform"]}, "sampled_classes: leaves most centers untouched"),
        ({"margin": "per_class"}, "sampled_classes: does not go with per_class"),
        ({"sampled_classes": 0}, "sampled_classes: must be greater than or equal to 1"),
    ],
    ids=str,
)
def test_what_needs_all_classes_is_refused(options, message):
    with pytest.raises(OptionError, match=message):
        LOSSES["proxy"].check({"sampled_classes": 5, **options})


@pytest.mark.parametrize("key", ["softmax_ce", "norm_softmax", "proxy", "proxy_anchor"])
def test_plain_forms_refuse_a_million_classes_and_name_the_memory(key):
    loss = losses.build(key, 1_000_000, 2)
    with pytest.raises(DataError, match=r"12\.3 GB of working memory, more than 4 GB: set sampled_classes .* 'proxy'"):
        loss(torch.randn(512, 2), torch.arange(512))


def centers(*shape):
    return (torch.empty(shape, device="meta"),)


def test_usual_sizes_pass():
    with pytest.raises(DataError, match=r"128 embeddings beside 1000000 centers would need about 4\.1 GB"):
        check_memory(128, centers(1_000_000, 1, 128))
    check_memory(180, centers(11_318, 10, 64))
    check_memory(180, centers(11_318, 10, 512))
    check_memory(2_000_000, centers(150, 1, 64))  # pixels: no matter of classes


@pytest.fixture
def train():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 8)
    images = (labels[:, None, None, None] * 80 + rng.integers(0, 60, (24, 8, 8, 1))).astype(np.uint8)
    return ImageSet(images, labels, ("a", "b", "c"))


def settings(optimizer=None, **centers):
    optimizer = optimizer or {"name": "adamw", "lr": 0.01, "eps": 1e-8, "beta1": 0.9, "beta2": 0.99}
    sampler = {"name": "pxk", "classes_per_batch": 3, "images_per_class": 4}
    return Training(epochs=1, sampler=sampler, optimizer=optimizer, schedule={"name": "constant"}, centers=centers)


def network(train):
    return build_embedder({"name": "convnet", "width": 4}, Embedding(dim=6), train.image_shape, train.moments, 0)


def test_training_moves_the_drawn_rows_only(train):
    torch.manual_seed(0)
    loss = losses.build("proxy", 1000, 6, sampled_classes=20, scale=8.0)
    before, drawn = loss.centers.detach().clone(), set()
    steps = fit(
        network(train),
        loss,
        train,
        settings(lr=0.1),
        seed=0,
        device=torch.device("cpu"),
        on_step=lambda step: drawn.update(loss.centers.grad.coalesce().indices()[0].tolist()),
    )
    moved = (loss.centers.detach() != before).flatten(1).any(1).nonzero()[:, 0].tolist()
    assert len(steps) == 1
    assert int(loss.steps) == 2
    assert set(moved) == drawn
    assert 3 + 20 < len(drawn) <= 3 + 2 * 20
    assert (loss.centers.detach() - before).abs().max() == pytest.approx(0.2, rel=0.3)  # Adam steps by its rate


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (settings({"name": "sgd", "lr": 0.1}), "optimizer: must be adam or adamw for sampled_classes, not sgd"),
        (settings(weight_decay=0.1), "centers.weight_decay: must be 0 for sampled_classes"),
    ],
    ids=["sgd", "decay"],
)
def test_training_refuses_what_would_touch_every_row(train, chosen, message):
    loss = losses.build("proxy", 100, 6, sampled_classes=20)
    with pytest.raises(OptionError, match=message):
        fit(network(train), loss, train, chosen, seed=0, device=torch.device("cpu"))


def test_the_option_is_explained():
    shown = {option.name: option for option in LOSSES["proxy"].options}["sampled_classes"]
    assert (shown.default, shown.allowed) == (None, "integer >= 1 or null")
    assert "sampled_classes=M" in LOSSES["proxy"].doc
    assert "too low" in LOSSES["proxy"].doc
