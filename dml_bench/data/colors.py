"""Random changes of brightness, contrast, saturation and hue, and blur: a batch at a time, on any device."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dml_bench.errors import DataError
from dml_bench.recipe.schema import Augmentation

LUMA = (0.299, 0.587, 0.114)


def recolor(
    images: Float[Tensor, "N C H W"], settings: Augmentation, generator: torch.Generator
) -> Float[Tensor, "N C H W"]:
    """Change brightness, contrast, saturation and hue of each image, in this order, then blur it.

    Five numbers are drawn for each image whatever is switched on. Images stay in [0, 1].

    Source: the ``ColorJitter`` and ``GaussianBlur`` of torchvision.
    Differs: the order is fixed; the blur's deviation is drawn from 0 to ``settings.blur`` pixels.

    Raises:
        DataError: if saturation or hue is to change in grey images.
    """
    draws = torch.rand(len(images), 5, generator=generator, device=generator.device).to(images)
    if images.shape[1] == 1 and (settings.saturation or settings.hue):
        raise DataError("saturation and hue cannot be changed: the images are grey")
    light, contrast, color, turn, soft = draws[:, :, None, None, None].unbind(1)
    if settings.brightness:
        images = (images * _factor(light, settings.brightness)).clamp(0, 1)
    if settings.contrast:
        images = _blend(images, grey(images).mean(dim=(1, 2, 3), keepdim=True), _factor(contrast, settings.contrast))
    if settings.saturation:
        images = _blend(images, grey(images), _factor(color, settings.saturation))
    if settings.hue:
        images = shift_hue(images, settings.hue * (2 * turn[:, 0] - 1))
    return blur(images, settings.blur * soft.flatten(), settings.blur) if settings.blur else images


def grey(images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N 1 H W"]:
    """Return the luma (ITU-R 601) of each pixel."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    luma: Tensor = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    return luma[:, None]


def shift_hue(images: Float[Tensor, "N 3 H W"], turns: Float[Tensor, "N 1 1"]) -> Float[Tensor, "N 3 H W"]:
    """Turn the hue by so many full circles, in HSV."""
    value, lowest = images.amax(dim=1), images.amin(dim=1)
    chroma = value - lowest
    red, green, blue = images.unbind(1)
    safe = chroma.clamp_min(1e-12)
    sixth = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = sixth + 6 * turns

    def channel(offset: int) -> Tensor:
        position = torch.remainder(offset + hue, 6)
        return value - chroma * torch.minimum(position, 4 - position).clamp(0, 1)

    return torch.stack([channel(5), channel(3), channel(1)], dim=1)


def blur(images: Float[Tensor, "N C H W"], deviations: Float[Tensor, " N"], largest: float) -> Float[Tensor, "N C H W"]:
    """Blur each image by a Gaussian of its own deviation, pixels, cut off at three times the largest one allowed.

    Raises:
        DataError: if the images are smaller than the blur is wide.
    """
    reach = math.ceil(3 * largest)
    if reach >= min(images.shape[2:]):
        raise DataError(f"blur {largest:g} reaches {reach} pixels, more than the images have")
    offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernels = torch.exp(-0.5 * (offsets / deviations.clamp_min(1e-3)[:, None]) ** 2)
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat_interleave(images.shape[1], dim=0)
    count, channels, height, width = images.shape
    planes = F.pad(images, (reach,) * 4, mode="reflect").reshape(1, count * channels, height + 2 * reach, -1)
    planes = F.conv2d(planes, kernels[:, None, :, None], groups=len(kernels))
    planes = F.conv2d(planes, kernels[:, None, None, :], groups=len(kernels))
    return planes.reshape(count, channels, height, width)


def _factor(draw: Tensor, largest: float) -> Tensor:
    """Return a factor from 1 - largest, but at least 0, to 1 + largest."""
    low = max(0.0, 1 - largest)
    return low + (1 + largest - low) * draw


def _blend(images: Tensor, others: Tensor, share: Tensor) -> Tensor:
    return (share * images + (1 - share) * others).clamp(0, 1)
