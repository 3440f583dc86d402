import numpy as np
import pytest
import torch
from torch import nn

from dml_bench import losses
from dml_bench.data.augment import to_float
from dml_bench.data.dataset import ImageSet
from dml_bench.data.samplers import SAMPLERS
from dml_bench.errors import TrainingError
from dml_bench.losses import Loss, Task
from dml_bench.models.embedder import build_embedder
from dml_bench.randomness import derive_seed
from dml_bench.recipe.schema import Embedding, Training
from dml_bench.training.fit import fit
from dml_bench.training.optimizers import OPTIMIZERS
from dml_bench.training.schedules import SCHEDULES

CPU = torch.device("cpu")
SAMPLER = {"name": "pxk", "classes_per_batch": 3, "images_per_class": 4}


@pytest.fixture(scope="module")
def train():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 8)
    images = (labels[:, None, None, None] * 80 + rng.integers(0, 60, (24, 8, 8, 1))).astype(np.uint8)
    return ImageSet(images, labels, ("a", "b", "c"))


def settings(**changes):
    values = {
        "epochs": 2,
        "sampler": SAMPLER,
        "optimizer": {"name": "adamw"},
        "schedule": {"name": "cosine"},
        **changes,
    }
    for kind, registry in (("sampler", SAMPLERS), ("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
        options = {key: value for key, value in values[kind].items() if key != "name"}
        values[kind] = {"name": values[kind]["name"], **registry[values[kind]["name"]].check(options)}
    return Training.model_validate(values)


def model(train, seed=0):
    return build_embedder({"name": "convnet", "width": 4}, Embedding(dim=6), train.image_shape, train.moments, seed)


def loss(name="norm_softmax", **options):
    torch.manual_seed(1)
    return losses.build(name, num_classes=3, embedding_dim=6, **options)


def test_training_lowers_the_loss_and_moves_the_centers(train):
    criterion = loss()
    before = criterion.centers.detach().clone()
    curve = fit(model(train), criterion, train, settings(epochs=8), seed=0, device=CPU)
    assert curve[-1].loss < 0.5 * curve[0].loss
    assert not torch.equal(before, criterion.centers.detach())
    assert [epoch.epoch for epoch in curve] == list(range(1, 9))


def test_same_seed_same_weights_other_seed_others(train):
    def weights(seed):
        network = model(train)
        fit(network, loss(), train, settings(augmentation={"rotation": 10.0}), seed=seed, device=CPU)
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_equals_a_plain_loop(train):
    """Against a loop that shares nothing but the batches."""
    chosen = settings(epochs=2, optimizer={"name": "sgd", "lr": 0.05}, centers={"lr": 0.2, "weight_decay": 0.01})
    ours, criterion = model(train), loss()
    curve = fit(ours, criterion, train, chosen, seed=5, device=CPU)

    plain, other = model(train).train(), loss()
    groups = [
        {"params": list(plain.parameters()), "lr": 0.05, "weight_decay": 1e-4},
        {"params": [other.centers], "lr": 0.2, "weight_decay": 0.01},
    ]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    values, step = [], 0
    for epoch in (1, 2):
        batches = list(
            SAMPLERS.build("pxk", train.labels, classes_per_batch=3, images_per_class=4).batches(
                np.random.default_rng(derive_seed(5, "sampler", epoch))
            )
        )
        for indices in batches:
            for group, rate in zip(optimizer.param_groups, (0.05, 0.2), strict=True):
                group["lr"] = rate * 0.5 * (1 + np.cos(np.pi * step / (2 * len(batches))))
            value = other(
                plain(to_float(torch.from_numpy(train.images[indices]))), torch.from_numpy(train.labels[indices])
            )
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            values.append(float(value.detach()))
            step += 1
    assert np.mean(values[len(values) // 2 :]) == pytest.approx(curve[-1].loss, rel=1e-6)
    torch.testing.assert_close(other.centers, criterion.centers)


def test_loss_that_is_not_finite_stops_the_run(train):
    class Broken(Loss):
        def compute(self, embeddings, labels, indices):
            return {"broken": embeddings.sum() * float("nan")}

    with pytest.raises(TrainingError, match="the loss is not finite in epoch 1, step 1"):
        fit(model(train), Broken(Task(3, 6)), train, settings(), seed=0, device=CPU)


def test_parameters_left_out_of_the_groups_are_an_error(train):
    criterion = loss()
    criterion.param_groups = lambda base_lr: []
    with pytest.raises(TrainingError, match="leaves out centers"):
        fit(model(train), criterion, train, settings(), seed=0, device=CPU)


def test_parameters_that_never_move_are_an_error(train):
    class Idle(Loss):
        def __init__(self, task):
            super().__init__(task)
            self.centers = nn.Parameter(torch.ones(3))

        def compute(self, embeddings, labels, indices):
            return {"idle": embeddings.square().sum()}

    with pytest.raises(TrainingError, match="never moved the loss's centers"):
        fit(model(train), Idle(Task(3, 6)), train, settings(), seed=0, device=CPU)


def test_bf16_trains_close_to_fp32(train):
    curves = [fit(model(train), loss(), train, settings(precision=p), seed=0, device=CPU) for p in ("fp32", "bf16")]
    assert curves[0][-1].loss != curves[1][-1].loss
    assert curves[1][-1].loss == pytest.approx(curves[0][-1].loss, rel=0.1)
