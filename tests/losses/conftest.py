"""Shared by the tests of losses: the oracle, and batches that are hard to get right."""

from types import SimpleNamespace

import pytest
import torch

from dml_bench.losses import LOSSES, build
from dml_bench.testing import oracle as plain_loops

CLASSES, DIM = 5, 6


@pytest.fixture(scope="session")
def oracle():
    return plain_loops


@pytest.fixture(scope="session")
def stateful():
    """The oracle of losses whose parts change while training."""
    return plain_loops.stateful


@pytest.fixture(params=[entry.name for entry in LOSSES])
def key(request):
    return request.param


@pytest.fixture
def make():
    """Build a float64 loss for the batches below, with centers from a seed."""

    def make(key, num_classes=CLASSES, dim=DIM, seed=0, **options):
        torch.manual_seed(seed)
        counts = torch.arange(1, num_classes + 1)
        return build(key, num_classes, dim, **{"class_counts": counts, **options}).double()

    return make


def _random(labels, seed):
    torch.manual_seed(seed)
    labels = torch.tensor(labels)
    return SimpleNamespace(x=torch.randn(len(labels), DIM, dtype=torch.float64), y=labels)


def _clustered():
    """Batch where most triplets are nearly in order, so that mining has something to decide."""
    batch = _random([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3], 3)
    means = torch.randn(CLASSES, DIM, dtype=torch.float64)
    batch.x = 0.6 * batch.x + means[batch.y]
    return batch


BATCHES = {
    "balanced": lambda: _random([0, 0, 1, 1, 2, 2, 3, 3, 4, 4], 0),
    "unbalanced": lambda: _random([0] * 7 + [1, 2, 2], 1),
    "absent": lambda: _random([4, 4, 4, 1, 1], 2),
    "three": lambda: _random([0, 0, 1], 8),
    "clustered": _clustered,
    "singletons": lambda: _random([0, 1, 2, 3, 4], 4),
    "one_class": lambda: _random([2, 2, 2], 5),
    "one_sample": lambda: _random([3], 6),
}


@pytest.fixture(params=BATCHES)
def batch(request):
    return BATCHES[request.param]()


@pytest.fixture
def clustered():
    return _clustered()
