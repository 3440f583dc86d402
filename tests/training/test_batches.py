import numpy as np
import pytest
import torch

from dml_bench.data.ahead import in_a_thread
from dml_bench.data.dataset import ImageSet
from dml_bench.data.samplers import build_sampler
from dml_bench.recipe.schema import Training
from dml_bench.training import batches as module
from dml_bench.training.batches import batches, taker

CPU = torch.device("cpu")


@pytest.fixture
def train():
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    return ImageSet(images, np.repeat(np.arange(4), 10), ("a", "b", "c", "d"))


def settings(sampler):
    changes = {"flip": True, "crop": "resized", "brightness": 0.2}
    return Training(epochs=1, sampler={"name": sampler, "batch_size": 8}, augmentation=changes)


def made(train, sampler):
    chosen = settings(sampler)
    return batches(taker(train, chosen, CPU), train, build_sampler(chosen.sampler, train), chosen, 3, 2, CPU)


def test_batches_made_in_a_thread_are_the_same(train):
    torch.manual_seed(0)
    coming = in_a_thread(made(train, "random"))
    for here, there in zip(made(train, "random"), coming, strict=True):
        torch.rand(1000)  # whatever the step draws from the global generator
        assert all(torch.equal(getattr(here, name), getattr(there, name)) for name in ("images", "labels", "indices"))


@pytest.mark.parametrize(("sampler", "expected"), [("random", ["cpu"]), ("adaptive", [])])
def test_a_sampler_that_hears_from_steps_is_not_read_ahead(train, monkeypatch, sampler, expected):
    asked = []

    def ahead(items, device):
        asked.append(device.type)
        return items

    monkeypatch.setattr(module, "ahead", ahead)
    assert len(list(made(train, sampler))) == 5
    assert asked == expected
