"""The batches of an epoch, as the network is given them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from dml_bench import ranks
from dml_bench.data.ahead import ahead
from dml_bench.data.augment import finish
from dml_bench.data.colors import recolor
from dml_bench.data.crops import crop_boxes, cut
from dml_bench.data.dataset import ImageSet
from dml_bench.data.informed import LearnsFromSteps
from dml_bench.data.samplers import Indices, Sampler
from dml_bench.errors import TrainingError
from dml_bench.randomness import derive_seed
from dml_bench.recipe.schema import Augmentation, Training


@dataclass(frozen=True, eq=False)
class Batch:
    """What the network is given.

    Attributes:
        images: ``(B, C, H, W)`` in [0, 1], or features.
        labels: ``(B,)`` integers.
        indices: ``(B,)`` positions in the training set.
        draws: the states of the generators after this batch, from which the next one is made.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    draws: Mapping[str, Tensor]


USES = ("crop", "augmentation", "color")
"""What is drawn for a batch, each with a generator of its own."""

Take = Callable[[Indices, torch.Generator], Tensor]
"""Bytes ``(B, H, W, C)`` of a batch on the device."""


def taker(train: ImageSet, settings: Training, device: torch.device) -> Take:
    """Return what fetches the images of a batch: as they are tested, or cut at random out of the whole photos."""
    changes = settings.augmentation
    if changes.crop == "none":
        return lambda rows, generator: torch.from_numpy(np.require(train.images[rows], requirements="W")).to(device)
    size = train.image_shape[0]
    photos = train.photos(changes.photo_side(size))

    def crop(rows: Indices, generator: torch.Generator) -> Tensor:
        taken = photos.take(rows)
        sizes = torch.tensor([photo.shape[:2] for photo in taken])
        return cut(taken, crop_boxes(sizes, changes, size, generator), size, device, settings.threads)

    return crop


def batches(
    take: Take,
    train: ImageSet,
    sampler: Sampler,
    settings: Training,
    seed: int,
    epoch: int,
    device: torch.device,
    done: int = 0,
    draws: Mapping[str, Tensor] | None = None,
) -> Iterator[Batch]:
    """Return the epoch's batches on the device, less the first ``done``, after which the generators stood at ``draws``.

    Crops, geometry and colors have a generator each, on the CPU, so that no device, no number of threads and no other
    setting changes a draw. While a GPU computes, the next batch is made ready, unless the sampler wants to hear first
    how the step went. Each of several ranks draws and augments the whole batch, as one process does, and keeps its
    share of the images.
    """
    rows = islice(sampler.batches(np.random.default_rng(derive_seed(seed, "sampler", epoch))), done, None)
    generators = {use: torch.Generator().manual_seed(derive_seed(seed, use, epoch)) for use in USES}
    for use, state in (draws or {}).items():
        generators[use].set_state(state)
    made = _made(take, train, rows, settings.augmentation, generators, device)
    return made if isinstance(sampler, LearnsFromSteps) else ahead(made, device)


def _made(
    take: Take,
    train: ImageSet,
    rows: Iterator[Indices],
    changes: Augmentation,
    generators: Mapping[str, torch.Generator],
    device: torch.device,
) -> Iterator[Batch]:
    for indices in rows:
        if len(indices) < ranks.count():
            raise TrainingError(f"a batch of {len(indices)} images cannot be shared by {ranks.count()} ranks")
        images = finish(take(indices, generators["crop"]), changes, generators["augmentation"])
        if changes.recolors:
            images = recolor(images, changes, generators["color"])
        labels = torch.from_numpy(train.labels[indices]).to(device)
        draws = {use: generator.get_state() for use, generator in generators.items()}
        yield Batch(images[ranks.share(len(images))], labels, torch.from_numpy(indices).to(device), draws)
