"""The batches of an epoch, as the network is given them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
from dml_bench.recipe.schema import Training

Batch = tuple[Tensor, Tensor, Tensor]
"""Images, labels, positions in the training set. Of several ranks, each has its own share of the images."""

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
    take: Take, train: ImageSet, sampler: Sampler, settings: Training, seed: int, epoch: int, device: torch.device
) -> Iterator[Batch]:
    """Return the epoch's batches on the device: images in [0, 1], labels, positions in the training set.

    Crops, geometry and colors have a generator each, on the CPU, so that no device, no number of threads and no other
    setting changes a draw. While a GPU computes, the next batch is made ready, unless the sampler wants to hear first
    how the step went. Each of several ranks draws and augments the whole batch, as one process does, and keeps its
    share of the images.
    """
    made = _made(take, train, sampler, settings, seed, epoch, device)
    return made if isinstance(sampler, LearnsFromSteps) else ahead(made, device)


def _made(
    take: Take, train: ImageSet, sampler: Sampler, settings: Training, seed: int, epoch: int, device: torch.device
) -> Iterator[Batch]:
    crops, noise, colors = (_generator(seed, use, epoch) for use in ("crop", "augmentation", "color"))
    changes = settings.augmentation
    for indices in sampler.batches(np.random.default_rng(derive_seed(seed, "sampler", epoch))):
        if len(indices) < ranks.count():
            raise TrainingError(f"a batch of {len(indices)} images cannot be shared by {ranks.count()} ranks")
        images = finish(take(indices, crops), changes, noise)
        if changes.recolors:
            images = recolor(images, changes, colors)
        labels = torch.from_numpy(train.labels[indices]).to(device)
        yield images[ranks.share(len(images))], labels, torch.from_numpy(indices).to(device)


def _generator(seed: int, use: str, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, use, epoch))
