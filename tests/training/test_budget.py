"""How long training lasts: exactly so many steps, the last epoch cut short."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dml_bench import losses
from dml_bench.data.dataset import ImageSet
from dml_bench.data.samplers import SAMPLERS, RandomBatches
from dml_bench.errors import OptionError
from dml_bench.models.embedder import build_embedder
from dml_bench.recipe.schema import Embedding, Training
from dml_bench.training.budget import duration, total_steps
from dml_bench.training.fit import fit
from dml_bench.training.optimizers import OPTIMIZERS
from dml_bench.training.schedules import SCHEDULES


def settings(**budget):
    parts = {"sampler": (SAMPLERS, "random"), "optimizer": (OPTIMIZERS, "sgd"), "schedule": (SCHEDULES, "cosine")}
    chosen = {key: {"name": name, **registry[name].check({})} for key, (registry, name) in parts.items()}
    chosen["sampler"]["batch_size"] = 8
    return Training.model_validate({**chosen, **budget})


@pytest.fixture(scope="module")
def train():
    """40 images: five batches of eight an epoch."""
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    return ImageSet(images, np.repeat(np.arange(4), 10), tuple("abcd"))


def trained(train, **budget):
    """Return the steps of each epoch, as the loop tells them, and the rates the epochs ended with."""
    torch.manual_seed(0)
    network = build_embedder({"name": "convnet", "width": 4}, Embedding(dim=4), (8, 8, 1), train.moments, 0)
    criterion = losses.build("norm_softmax", num_classes=4, embedding_dim=4)
    seen = []
    curve = fit(network, criterion, train, settings(**budget), seed=0, device=torch.device("cpu"), on_step=seen.append)
    epochs = np.bincount([step.epoch for step in seen])[1:].tolist()
    assert all(step.steps == epochs[step.epoch - 1] for step in seen)
    return epochs, [epoch.learning_rate for epoch in curve]


@pytest.mark.parametrize(
    ("budget", "epochs"),
    [
        ({"epochs": 2}, [5, 5]),
        ({"steps": 1}, [1]),
        ({"steps": 10}, [5, 5]),
        ({"steps": 13}, [5, 5, 3]),
        ({"images": 8}, [1]),
        ({"images": 80}, [5, 5]),
        ({"images": 81}, [5, 5, 1]),  # the eleventh batch is drawn whole
    ],
)
def test_training_takes_exactly_so_many_steps(train, budget, epochs):
    assert trained(train, **budget)[0] == epochs


def test_the_schedule_ends_with_the_budget(train):
    """The cosine falls over all 13 steps: the last one stands at 12 / 13 of its way."""
    rate = settings().optimizer["lr"]
    assert trained(train, steps=13)[1][-1] == pytest.approx(rate * 0.5 * (1 + np.cos(np.pi * 12 / 13)))


@given(st.integers(1, 500), st.integers(1, 60), st.integers(1, 60))
def test_budgets_in_images_draw_enough_and_no_batch_more(images, size, batch):
    sampler = RandomBatches(max(size, batch), batch)
    steps = total_steps(settings(images=images), sampler)
    assert (steps - 1) * batch < images <= steps * batch
    assert duration(settings(images=images), sampler) == pytest.approx(steps / len(sampler))


def test_a_budget_shorter_than_the_warm_up_is_refused(train):
    with pytest.raises(OptionError, match=r"training\.warmup_epochs: must be at most the 0\.6 epochs"):
        trained(train, steps=3, warmup_epochs=1.0)


@pytest.mark.parametrize("budget", [{"steps": 3, "images": 9}, {"epochs": 1, "steps": 3}, {"epochs": None}])
def test_one_budget_is_needed(budget):
    with pytest.raises(ValueError, match="exactly one of epochs, steps and images"):
        settings(**budget)
