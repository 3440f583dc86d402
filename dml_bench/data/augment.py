"""Random changes of a batch of images, on whatever device the batch is, from one generator."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from dml_bench.recipe.schema import Augmentation


def to_float(images: UInt8[Tensor, "N H W C"] | Float[Tensor, "N D"]) -> Float[Tensor, "N ..."]:
    """Return images as float32 in [0, 1], channels first (and still last in memory, which convolutions like).

    Features ``(N, D)``, which are floats already, come back as they are.
    """
    if images.is_floating_point():
        return images
    if images.device.type != "cpu":
        return images.permute(0, 3, 1, 2).to(torch.float32).div_(255)
    # The same numbers in a third of the time: numpy asks for large pages, and one pass divides.
    return torch.from_numpy(np.divide(images.numpy(), np.float32(255), dtype=np.float32)).permute(0, 3, 1, 2)


def finish(
    images: UInt8[Tensor, "N H W C"] | Float[Tensor, "N D"], settings: Augmentation, generator: torch.Generator
) -> Float[Tensor, "N ..."]:
    """Return ``augment(to_float(images), ...)``, the same numbers, made of bytes that nobody else needs.

    On the CPU, where images are mirrored and no more, their bytes are, in place: quicker than to mirror floats.
    """
    if images.device.type != "cpu" or warps(settings) or not settings.flip:
        return augment(to_float(images), settings, generator)
    flipped = _draws(images, generator)[:, 3] < 0.5
    for row in flipped.nonzero().flatten().tolist():
        images[row] = images[row].flip(1)
    return to_float(images)


def warps(settings: Augmentation) -> bool:
    """Say whether images are moved, turned, scaled or sheared."""
    return bool(settings.crop_padding or settings.rotation or settings.scale or settings.shear)


def augment(
    images: Float[Tensor, "N ..."], settings: Augmentation, generator: torch.Generator
) -> Float[Tensor, "N ..."]:
    """Change each image by its own random affine map, sampled bilinearly; what comes in from outside is zero (black).

    The same generator state gives the same images on every device the batch may be on. Six numbers are drawn for each
    image whatever is switched on, so that one setting leaves the draws of the others alone. With all settings off the
    images come back untouched; with ``flip`` alone they are mirrored exactly.

    Example:
        >>> from dml_bench.recipe.schema import Augmentation
        >>> augment(torch.rand(8, 1, 28, 28), Augmentation(rotation=10), torch.Generator().manual_seed(0)).shape
        torch.Size([8, 1, 28, 28])
    """
    draws = _draws(images, generator).to(images)
    if not warps(settings):
        if not settings.flip:
            return images
        return torch.where(draws[:, 3, None, None, None] < 0.5, images.flip(3), images)
    theta = random_affine(draws, settings, images.shape[2], images.shape[3])
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def random_affine(
    draws: Float[Tensor, "N 6"], settings: Augmentation, height: int, width: int
) -> Float[Tensor, "N 2 3"]:
    """Turn uniform draws in [0, 1) into maps from output to input coordinates, in the form ``affine_grid`` takes."""
    turn, shear, size, flip, right, down = draws.unbind(1)
    angle = math.radians(settings.rotation) * (2 * turn - 1)
    slant = torch.tan(math.radians(settings.shear) * (2 * shear - 1))
    zoom = 1 + settings.scale * (2 * size - 1)
    mirror = torch.where(flip < 0.5, -1.0, 1.0).to(draws) if settings.flip else torch.ones_like(flip)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    # rotation @ shear @ mirror, in pixels; the ratio turns pixels into affine_grid's halves of a side
    ratio = height / width
    x = [cos * mirror, (cos * slant - sin) * ratio, _shift(right, settings.crop_padding) * (2 / width)]
    y = [sin * mirror / ratio, sin * slant + cos, _shift(down, settings.crop_padding) * (2 / height)]
    return torch.stack([torch.stack(x, dim=1), torch.stack(y, dim=1)], dim=1)


def _draws(images: Tensor, generator: torch.Generator) -> Float[Tensor, "N 6"]:
    return torch.rand(len(images), 6, generator=generator, device=generator.device)


def _shift(draw: Float[Tensor, " N"], largest: int) -> Float[Tensor, " N"]:
    """Return a whole number of pixels in [-largest, largest]."""
    return torch.floor(draw * (2 * largest + 1)) - largest
