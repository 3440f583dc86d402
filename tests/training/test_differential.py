"""Our trainer against loops that share nothing with it but the first weights and the order of the images.

All in float64: in float32, sums in another order alone make two equal formulas drift apart within a hundred steps.
"""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import NormalizedSoftmaxLoss, TripletMarginLoss
from pytorch_metric_learning.trainers import MetricLossOnly
from torch import nn

from dml_bench import losses
from dml_bench.data.dataset import ImageSet
from dml_bench.data.samplers import build_sampler
from dml_bench.flow import VOCABULARY
from dml_bench.models.embedder import build_embedder
from dml_bench.randomness import derive_seed
from dml_bench.recipe.check import complete
from dml_bench.recipe.schema import Embedding, Recipe
from dml_bench.training.fit import fit

CLASSES, EACH, DIM, WIDTH, BATCH, EPOCHS = 12, 10, 8, 4, 12, 10
STEPS = CLASSES * EACH // BATCH
CPU = torch.device("cpu")
RANDOM = {"name": "random", "batch_size": BATCH}
PXK = {"name": "pxk", "classes_per_batch": 4, "images_per_class": 3}


@pytest.fixture(scope="module")
def train():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), EACH)
    marks = rng.integers(0, 150, (CLASSES, 8, 8, 1))
    images = (marks[labels] + rng.integers(0, 100, (len(labels), 8, 8, 1))).astype(np.uint8)
    return ImageSet(images, labels, tuple("abcdefghijkl"))


def ours(train, name, seed, training, **options):
    """Train as a recipe says; return the loss of every batch, the embeddings, and what training began with."""
    recipe = Recipe(dataset={"name": "digits"}, loss={"name": name}, training={"epochs": EPOCHS, **training})
    model = build_embedder(
        {"name": "convnet", "width": WIDTH}, Embedding(dim=DIM), train.image_shape, train.moments, seed
    ).double()
    torch.manual_seed(seed)
    loss = losses.build(name, CLASSES, DIM, **options).double()
    first = [value.clone() for value in model.state_dict().values()], [p.detach().clone() for p in loss.parameters()]
    settings = complete(recipe, VOCABULARY, []).recipe.training
    curve = []
    fit(model, loss, train, settings, seed=seed, device=CPU, on_step=lambda step: curve.append(step.loss))
    model.eval()
    return SimpleNamespace(curve=curve, embeddings=model(pictures(train)).detach(), weights=first[0], centers=first[1])


class Net(nn.Module):
    """The same network, written down once more."""

    def __init__(self, weights):
        super().__init__()
        self.mean, self.std = weights[0], weights[1]
        widths = [1, WIDTH, 2 * WIDTH, 2 * WIDTH, 4 * WIDTH]
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1, bias=False) for i, o in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for o in widths[1:])
        self.linear = nn.Linear(widths[-1], DIM)
        blocks = [part for pair in zip(self.convolutions, self.norms, strict=True) for part in pair]
        self.double()
        own = [value for part in (*blocks, self.linear) for value in part.state_dict().values()]
        for target, value in zip(own, weights[2:], strict=True):
            target.copy_(value)

    def trunk(self, images):
        x = (images - self.mean) / self.std
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = convolution(x)
            x = F.relu(norm(F.max_pool2d(x, 2) if i < 3 else x))
        return x.mean(dim=(2, 3))

    def forward(self, images):
        return self.linear(self.trunk(images))


def pictures(train):
    return torch.from_numpy(train.images).permute(0, 3, 1, 2).float().div(255).double()


def orders(train, sampler, seed):
    """The rows of every batch of every epoch."""
    drawn = build_sampler(sampler, train)
    return [
        list(drawn.batches(np.random.default_rng(derive_seed(seed, "sampler", epoch))))
        for epoch in range(1, EPOCHS + 1)
    ]


def soft_triple(x, y, fc, k, la=20.0, gamma=0.1, tau=0.2, margin=0.01):
    """SoftTriple as its authors compute it, centers in the columns of ``fc`` (D, C K)."""
    columns = fc / fc.norm(dim=0)
    by_center = ((x / x.norm(dim=1, keepdim=True)) @ columns).reshape(len(x), -1, k)
    by_class = ((by_center / gamma).exp() / (by_center / gamma).exp().sum(2, keepdim=True) * by_center).sum(2)
    target = F.one_hot(y, by_class.shape[1]).to(x)
    cost = F.cross_entropy(la * (by_class - margin * target), y)
    between = columns.T @ columns
    total = sum(
        (2 + 1e-5 - 2 * between[c * k + i, c * k + j]).sqrt()
        for c in range(by_class.shape[1])
        for i in range(k)
        for j in range(i + 1, k)
    )
    return cost + tau * total / (by_class.shape[1] * k * (k - 1))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_softtriple_as_its_authors_train_it(train, seed):
    """Adam with eps 0.01, decay on network and centers, a rate for the centers, and the rate cut one epoch early."""
    k, every = 3, 4
    training = {
        "sampler": RANDOM,
        "optimizer": {"name": "adam", "lr": 1e-3, "weight_decay": 1e-4, "eps": 0.01},
        "centers": {"lr": 1e-2, "weight_decay": 1e-4},
        "schedule": {"name": "step", "milestones": [every - 1, 2 * every - 1]},
    }
    found = ours(train, "softtriple", seed, training, centers_per_class=k, init="official")

    net, rows = Net(found.weights).train(), torch.from_numpy(train.labels)
    fc = nn.Parameter(found.centers[0].permute(2, 0, 1).reshape(DIM, CLASSES * k).contiguous())
    groups = [{"params": net.parameters(), "lr": 1e-3}, {"params": [fc], "lr": 1e-2}]
    optimizer = torch.optim.Adam(groups, eps=0.01, weight_decay=1e-4)
    curve = []
    for epoch, batches in enumerate(orders(train, RANDOM, seed)):
        if (epoch + 1) % every == 0:
            for group in optimizer.param_groups:
                group["lr"] *= 0.1
        for batch in batches:
            value = soft_triple(net(pictures(train)[batch]), rows[batch], fc, k)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            curve.append(value.item())
    assert len(curve) == EPOCHS * STEPS == 100
    check(found, curve, net.eval()(pictures(train)).detach())


PML = {
    "norm_softmax": (RANDOM, {"scale": 20.0}, lambda: NormalizedSoftmaxLoss(CLASSES, DIM, temperature=1 / 20)),
    "triplet_all": (PXK, {"squared": False, "margin": 0.2}, lambda: TripletMarginLoss(margin=0.2)),
}


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True")  # its trainer prints the loss
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
@pytest.mark.parametrize("name", PML)
def test_trainer_of_pytorch_metric_learning(train, name, optimizer, seed):
    """A rate for each part, a step of the rate by epoch, weight decay on the centers too."""
    sampler, options, build = PML[name]
    training = {
        "sampler": sampler,
        "optimizer": {"name": optimizer, "lr": 1e-3, "weight_decay": 1e-4},
        "head": {"lr_factor": 2.0},
        "centers": {"lr": 1e-2, "weight_decay": None},
        "schedule": {"name": "step", "milestones": [4], "gamma": 0.5},
    }
    found = ours(train, name, seed, training, **options)
    net, loss = Net(found.weights), build().double()
    with torch.no_grad():
        for own, centers in zip(loss.parameters(), found.centers, strict=True):
            own.copy_(centers[:, 0].T)
    curve, order = [], orders(train, sampler, seed)
    parts = {"trunk": (Trunk(net), 1e-3), "embedder": (net.linear, 2e-3), "metric_loss": (loss, 1e-2)}
    makers = {
        "adam": lambda p, lr: torch.optim.Adam(p, lr, weight_decay=1e-4),
        "rmsprop": lambda p, lr: torch.optim.RMSprop(p, lr, momentum=0.9, weight_decay=1e-4),
    }
    optimizers = {
        f"{part}_optimizer": makers[optimizer](module.parameters(), lr)
        for part, (module, lr) in parts.items()
        if list(module.parameters())
    }
    MetricLossOnly(
        models={"trunk": parts["trunk"][0], "embedder": net.linear},
        optimizers=optimizers,
        batch_size=BATCH,
        loss_funcs={"metric_loss": loss},
        dataset=list(zip(pictures(train), train.labels.tolist(), strict=True)),
        sampler=[row for batches in order for batch in batches for row in batch],
        iterations_per_epoch=len(order[0]),
        data_device=CPU,
        dtype=torch.float64,
        dataloader_num_workers=0,
        lr_schedulers={
            f"{key.removesuffix('_optimizer')}_scheduler_by_epoch": torch.optim.lr_scheduler.MultiStepLR(made, [4], 0.5)
            for key, made in optimizers.items()
        },
        end_of_iteration_hook=lambda trainer: curve.append(trainer.losses["total_loss"].item()),
    ).train(num_epochs=EPOCHS)
    check(found, curve, net.eval()(pictures(train)).detach())


class Trunk(nn.Module):
    """The network without its linear layer."""

    def __init__(self, net):
        super().__init__()
        self.convolutions, self.norms, self._run = net.convolutions, net.norms, net.trunk

    def forward(self, images):
        return self._run(images)


def check(found, curve, embeddings):
    np.testing.assert_allclose(found.curve, curve, rtol=1e-9, atol=1e-9)
    assert np.ptp(curve) > 0.05
    torch.testing.assert_close(found.embeddings, embeddings, rtol=1e-8, atol=1e-9)
