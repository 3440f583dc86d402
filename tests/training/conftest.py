"""A training set, and fits of a small network on it."""

import numpy as np
import pytest
import torch

from dml_bench import losses
from dml_bench.data.dataset import ImageSet
from dml_bench.flow import VOCABULARY
from dml_bench.models.embedder import build_embedder
from dml_bench.recipe.check import complete
from dml_bench.recipe.schema import Embedding, Recipe
from dml_bench.training.fit import fit

CLASSES, EACH, DIM = 4, 10, 6


def training(**changes):
    """The section of a recipe with every default filled in: 10 batches of 4 images an epoch, SGD without momentum."""
    values = {
        "epochs": 2,
        "sampler": {"name": "random", "batch_size": 4},
        "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.0, "weight_decay": 0.0},
        "schedule": {"name": "constant"},
        **changes,
    }
    recipe = Recipe(dataset={"name": "digits"}, loss={"name": "softmax_ce"}, training=values)
    return complete(recipe, VOCABULARY, []).recipe.training


class Small:
    """What a fit needs, in float64, built anew for each."""

    def __init__(self, train):
        self.train = train

    settings = staticmethod(training)

    def model(self, backbone=None, head=True):
        backbone = backbone or {"name": "convnet", "width": 4}
        embedding = Embedding(dim=DIM) if head else None
        return build_embedder(backbone, embedding, self.train.image_shape, self.train.moments, 0).double()

    def loss(self, name="norm_softmax", **options):
        torch.manual_seed(1)
        return losses.build(name, CLASSES, options.pop("dim", DIM), **options).double()

    def fit(self, model=None, loss=None, seed=0, hear=None, **changes):
        """Fit and return model, loss and curve; ``hear`` are the callbacks."""
        model, loss = model or self.model(), loss or self.loss()
        settings = training(**changes)
        curve = fit(model, loss, self.train, settings, seed=seed, device=torch.device("cpu"), **(hear or {}))
        return model, loss, curve


@pytest.fixture(scope="session")
def small():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), EACH)
    images = (labels[:, None, None, None] * 50 + rng.integers(0, 100, (len(labels), 8, 8, 1))).astype(np.uint8)
    return Small(ImageSet(images, labels, tuple("abcd")))


@pytest.fixture(scope="session")
def flat():
    """All numbers of modules in one vector."""

    def numbers(*modules):
        values = [value for module in modules for value in module.state_dict().values()]
        return torch.cat([value.double().flatten() for value in values])

    return numbers
