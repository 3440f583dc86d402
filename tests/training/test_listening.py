"""What losses and samplers hear while training, and that none of it is in vain."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from dml_bench import losses
from dml_bench.data.dataset import ImageSet
from dml_bench.data.informed import AdaptiveBatches, NeighborBatches
from dml_bench.data.samplers import SAMPLERS
from dml_bench.errors import OptionError
from dml_bench.evaluation.extract import extract
from dml_bench.losses import Loss, Task
from dml_bench.models.embedder import build_embedder
from dml_bench.models.modes import evaluation_mode
from dml_bench.recipe.schema import Embedding, Training
from dml_bench.training import fit as fit_module
from dml_bench.training import listening
from dml_bench.training.fit import fit
from dml_bench.training.listening import epoch_context, judge
from dml_bench.training.optimizers import OPTIMIZERS
from dml_bench.training.schedules import SCHEDULES

CPU = torch.device("cpu")
CLASSES, EACH, DIM = 6, 8, 6
PXK = {"name": "pxk", "classes_per_batch": 4, "images_per_class": 4}


@pytest.fixture(scope="module")
def train():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), EACH)
    images = labels[:, None, None, None] * 30 + rng.integers(0, 100, (len(labels), 8, 8, 1))
    return ImageSet(images.astype(np.uint8), labels, tuple("abcdef"))


def network(train, dropout=0.0):
    backbone = {"name": "convnet", "width": 4, "dropout": dropout}
    return build_embedder(backbone, Embedding(dim=DIM), train.image_shape, train.moments, seed=0)


def settings(sampler=PXK, epochs=2):
    values = {"sampler": sampler, "optimizer": {"name": "adamw", "lr": 0.01}, "schedule": {"name": "constant"}}
    for kind, registry in (("sampler", SAMPLERS), ("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
        name = values[kind].pop("name") if kind != "sampler" else sampler["name"]
        options = {key: value for key, value in values[kind].items() if key != "name"}
        values[kind] = {"name": name, **registry[name].check(options)}
    return Training.model_validate({"epochs": epochs, **values})


def build(name, **options):
    torch.manual_seed(1)
    return losses.build(name, CLASSES, DIM, **options)


def trained(train, loss, *, dropout=0.0, sampler=PXK, epochs=2, seed=0):
    """Train and return the embeddings."""
    model = network(train, dropout)
    fit(model, loss, train, settings(sampler, epochs), seed=seed, device=CPU)
    return extract(model, train.images)


def without(loss, method):
    """Make a loss, or the part of it that the path leads to, deaf to one method."""
    *path, last = method.split(".")
    setattr(loss.get_submodule(".".join(path)), last, lambda *args: None)
    return loss


PARTS = {
    "queues": ("adaptiveface", {"candidates": 1}, "negatives.queues", "negatives.join", 0.0),
    "tree": ("htl", {}, "nodes", "on_epoch_start", 0.0),
    "spreads": ("htl", {}, "spreads", "on_epoch_start", 0.0),
    "clusters": ("quintuplet", {}, "clusters", "on_epoch_start", 0.0),
    "class_margins": ("uncertainty_softmax", {"passes": 3}, "class_margins", "on_epoch_start", 0.4),
    "penalties": ("uncertainty_softmax", {"passes": 3}, "penalties", "on_epoch_start", 0.4),
}


@pytest.mark.parametrize(("name", "options", "buffer", "method", "dropout"), PARTS.values(), ids=PARTS)
def test_parts_change_while_training_are_state_and_matter(train, name, options, buffer, method, dropout):
    states = [build(name, **options).state_dict()[buffer]]
    # nearly collapsed embeddings are surely right or surely wrong, until some epochs have spread them out
    for epochs in (1, 2) if buffer != "penalties" else (1, 20):
        loss = build(name, **options)
        embeddings = trained(train, loss, dropout=dropout, epochs=epochs)
        states.append(loss.state_dict()[buffer].clone())
    assert all(a.shape != b.shape or not torch.equal(a, b) for a, b in pairwise(states))

    other = build(name, **options)
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other.state_dict()[buffer], states[-1])

    assert (embeddings != trained(train, without(build(name, **options), method), dropout=dropout, epochs=epochs)).any()


def test_mined_candidates_change_the_embeddings(train):
    mined, all_classes, plain = (build("adaptiveface", candidates=q) for q in (1, CLASSES, None))
    first, second, third = (trained(train, loss) for loss in (mined, all_classes, plain))
    assert (first != second).any()
    np.testing.assert_array_equal(second, third)


def test_a_second_stage_begins(train):
    two, one = (build("nra_two_stage", from_epoch=epoch) for epoch in (2, 3))
    assert (trained(train, two) != trained(train, one)).any()
    assert (int(two.stage), int(one.stage)) == (2, 1)


def test_margins_are_learned_apart(train):
    loss = build("adaptiveface")
    before = loss.margins.detach().clone()
    embeddings = trained(train, loss)
    assert (loss.margins != before).all()
    fixed = build("adaptiveface")
    fixed.margins.requires_grad_(False)
    assert (embeddings != trained(train, fixed)).any()


@pytest.fixture
def samplers(monkeypatch):
    """The samplers that ``fit`` builds, as it builds them."""
    built, real = [], fit_module.build_sampler

    def spy(choice, train):
        built.append(real(choice, train))
        return built[-1]

    monkeypatch.setattr(fit_module, "build_sampler", spy)
    return lambda kind: [part for part in built if isinstance(part, kind)]


def test_the_sampler_hears_what_was_right_and_draws_other_images(train, samplers):
    choice = {"name": "adaptive", "batch_size": 12}
    embeddings = trained(train, build("am_softmax"), sampler=choice)
    (sampler,) = samplers(AdaptiveBatches)
    assert len(np.unique(sampler.weights)) > 3
    assert ((sampler.weights >= 0.05) & (sampler.weights <= 10)).all()
    inert = {**choice, "correct_factor": 1.0, "wrong_factor": 1.0, "noise_factor": 1.0}
    assert (embeddings != trained(train, build("am_softmax"), sampler=inert)).any()
    assert (samplers(AdaptiveBatches)[1].weights == 1).all()


def test_the_sampler_of_neighbors_follows_the_embeddings(train, samplers):
    choice = {"name": "class_neighbors", "anchors": 2, "classes_per_anchor": 2, "images_per_class": 4}
    for epochs in (1, 3):
        trained(train, build("htl"), sampler=choice, epochs=epochs)
    first, third = (sampler.nearest for sampler in samplers(NeighborBatches))
    assert first.shape == third.shape == (CLASSES, 3)
    assert (first != third).any()


def test_the_adaptive_sampler_needs_a_loss_with_centers(train):
    with pytest.raises(OptionError, match=r"training.sampler: .*needs a loss with centers"):
        trained(train, build("triplet_semihard"), sampler={"name": "adaptive"})


class Listener(Loss):
    """Counts what it hears."""

    def __init__(self, asks=0):
        super().__init__(Task(CLASSES, DIM))
        self.asks, self.steps, self.epochs, self.seen = asks, 0, [], []

    def compute(self, embeddings, labels, indices):
        return {"length": embeddings.square().mean()}

    def on_step(self):
        self.steps += 1

    def on_epoch_start(self, context):
        assert not torch.is_grad_enabled()
        self.epochs.append((context.epoch, self.steps))
        self.seen += [context.embed() for _ in range(self.asks)]


def test_losses_hear_of_every_epoch_and_step(train):
    loss = Listener()
    trained(train, loss, epochs=3)
    assert loss.steps == 9
    assert loss.epochs == [(1, 0), (2, 3), (3, 6)]


def test_embeddings_are_computed_only_when_asked_for_and_once(train, monkeypatch):
    calls = []
    real = listening._embed
    monkeypatch.setattr(listening, "_embed", lambda *args: calls.append(1) or real(*args))
    trained(train, Listener())
    assert calls == []
    loss = Listener(asks=3)
    trained(train, loss)
    assert len(calls) == 2
    assert loss.seen[0] is loss.seen[2]


def test_listening_changes_nothing_by_itself(train):
    np.testing.assert_array_equal(trained(train, Listener()), trained(train, Listener(asks=1)))


def test_embeddings_are_those_of_evaluation_in_order(train, monkeypatch):
    monkeypatch.setattr("dml_bench.training.listening.BATCH", 5)
    model = network(train, dropout=0.5)
    context = epoch_context(model, train, seed=0, epoch=1, device=CPU)
    np.testing.assert_allclose(context.embed().numpy(), extract(model, train.images), rtol=1e-5, atol=1e-6)
    assert context.labels.tolist() == train.labels.tolist()


def test_dropout_passes_differ_repeat_and_leave_the_network_alone(train):
    model = network(train, dropout=0.5).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    contexts = [epoch_context(model, train, seed=0, epoch=epoch, device=CPU) for epoch in (1, 1, 2)]
    state = torch.get_rng_state()
    (a, b), (c, d), (e, _) = ([context.embed_with_dropout() for _ in range(2)] for context in contexts)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(a, c)
    assert torch.equal(b, d)
    assert not torch.equal(a, b)
    assert not torch.equal(a, e)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(module.training for module in model.modules())


def test_uncertainty_needs_dropout(train):
    with pytest.raises(OptionError, match=r"backbone: needs a network with dropout > 0"):
        trained(train, build("uncertainty_softmax"))


def test_frozen_modules_keep_their_mode(train):
    model = network(train, dropout=0.5).train()
    frozen = model.backbone[2].eval()
    with evaluation_mode(model, dropout=True):
        assert [m for m in model.modules() if m.training] == [model.backbone[-1]]
    assert not frozen.training
    assert model.training


def test_the_seed_decides_dropout(train):
    first, again, other = (trained(train, build("am_softmax"), dropout=0.3, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first != trained(train, build("am_softmax"), seed=3)).any()


@pytest.mark.parametrize("name", ["am_softmax", "softtriple", "em_softmax"])
def test_judge_says_what_is_right_and_how_near(name):
    loss, embeddings, labels = build(name), torch.randn(9, DIM), torch.arange(9) % CLASSES
    correct, score = judge(loss, embeddings, labels)
    assert correct.tolist() == (loss.class_scores(embeddings).argmax(dim=1) == labels).tolist()
    centers = loss.centers if loss.centers.ndim == 4 else loss.centers[None]
    for x, y, found in zip(embeddings, labels, score, strict=True):
        own = centers[:, y].flatten(0, 1)
        assert found == pytest.approx(torch.cosine_similarity(own, x[None]).max().item(), abs=1e-6)
