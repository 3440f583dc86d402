"""Random crops of photos: boxes drawn on the host, pixels resized where the batch is used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int, UInt8
from torch import Tensor

from dml_bench.data.pictures import Images
from dml_bench.errors import DataError
from dml_bench.recipe.schema import Augmentation

TRIES = 10


def crop_boxes(
    sizes: Int[Tensor, "N 2"], settings: Augmentation, size: int, generator: torch.Generator
) -> Int[Tensor, "N 4"]:
    """Draw a box (top, left, height, width) in each photo of the given height and width, pixels.

    ``settings.crop`` is ``resized``: area and aspect ratio are drawn, ten times at most until the box fits, else it is
    the largest central one of an allowed ratio. Or ``random``: a square of ``size`` pixels anywhere. The generator
    moves on by the same amount whatever the photos are.

    Source: the ``RandomResizedCrop`` and ``RandomCrop`` of torchvision.

    Raises:
        DataError: if a photo is too small to cut ``size`` pixels out of it.
    """
    draws = torch.rand(len(sizes), 2 * TRIES + 2, generator=generator, dtype=torch.float64)
    height, width = sizes.double().unbind(1)
    if settings.crop == "random":
        if int(sizes.min()) < size:
            raise DataError(
                f"crop: random cuts {size} x {size} pixels, but a photo has only {int(sizes.min())} on its short side; "
                "use crop: resized, or a smaller image_size"
            )
        h = w = torch.full_like(height, size)
    else:
        h, w = _areas(draws[:, :TRIES], draws[:, TRIES : 2 * TRIES], height, width, settings)
    top = torch.floor(draws[:, -2] * (height - h + 1))
    left = torch.floor(draws[:, -1] * (width - w + 1))
    if settings.crop == "resized":
        spare = (h < 0).nonzero().flatten()  # none of the tries fits
        h[spare], w[spare] = _central(height[spare], width[spare], settings)
        top[spare], left[spare] = torch.floor((height - h)[spare] / 2), torch.floor((width - w)[spare] / 2)
    return torch.stack([top, left, h, w], dim=1).long()


def _areas(area: Tensor, ratio: Tensor, height: Tensor, width: Tensor, settings: Augmentation) -> tuple[Tensor, Tensor]:
    """Return height and width of the first try that fits, -1 if none does."""
    (small, large), (narrow, broad) = settings.crop_scale, settings.crop_ratio
    pixels = (height * width)[:, None] * (small + (large - small) * area)
    aspect = torch.exp(math.log(narrow) + (math.log(broad) - math.log(narrow)) * ratio)
    w, h = torch.sqrt(pixels * aspect).round(), torch.sqrt(pixels / aspect).round()
    fits = (w > 0) & (h > 0) & (w <= width[:, None]) & (h <= height[:, None])
    first = fits.to(torch.uint8).argmax(dim=1, keepdim=True)
    none = ~fits.any(dim=1)
    return tuple(torch.where(none, -1.0, side.gather(1, first).squeeze(1)) for side in (h, w))  # type: ignore[return-value]


def _central(height: Tensor, width: Tensor, settings: Augmentation) -> tuple[Tensor, Tensor]:
    narrow, broad = settings.crop_ratio
    ratio = width / height
    h = torch.where(ratio < narrow, (width / narrow).round(), height)
    w = torch.where(ratio > broad, (height * broad).round(), width)
    return h, w


def cut(
    photos: Sequence[Images], boxes: Int[Tensor, "N 4"], size: int, device: torch.device, threads: int = 1
) -> UInt8[Tensor, "N S S C"]:
    """Cut a box out of each photo and resize it to ``size`` x ``size``, bilinearly with antialiasing, as Pillow does.

    On the CPU ``threads`` threads share the work. Another device is handed the cut-out pixels, uint8 and one behind the
    other in a single copy, and resizes them itself; it may round a pixel to the next level.
    """
    crops = [
        photo[top : top + height, left : left + width]
        for photo, (top, left, height, width) in zip(photos, boxes.tolist(), strict=True)
    ]
    if device.type != "cpu":
        return _resize_there(*hand_over(crops, device), size)
    batch = torch.from_numpy(np.empty((len(crops), size, size, photos[0].shape[2]), np.uint8))

    def resize(rows: range) -> None:
        for row in rows:
            batch[row] = resize_bytes(torch.from_numpy(np.array(crops[row])), size, size)

    parts = [range(start, len(crops), threads) for start in range(threads)]
    if threads == 1:
        resize(parts[0])
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(resize, parts))
    return batch


def hand_over(crops: Sequence[Images], device: torch.device) -> tuple[Tensor, list[tuple[int, ...]]]:
    """Copy crops to a device in one piece; return the flat pixels there and the shapes."""
    shapes = [crop.shape for crop in crops]
    total = sum(math.prod(shape) for shape in shapes)
    flat = torch.empty(total, dtype=torch.uint8, pin_memory=device.type == "cuda")
    view, start = flat.numpy(), 0
    for crop in crops:
        view[start : start + crop.size].reshape(crop.shape)[...] = crop
        start += crop.size
    return flat.to(device, non_blocking=True), shapes


def _resize_there(flat: Tensor, shapes: Sequence[tuple[int, ...]], size: int) -> Tensor:
    parts = torch.split(flat, [math.prod(shape) for shape in shapes])
    views = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
    return torch.stack([resize_bytes(view, size, size) for view in views])


def resize_bytes(pixels: UInt8[Tensor, "H W C"], height: int, width: int) -> UInt8[Tensor, "h w C"]:
    """Resize one image bilinearly with antialiasing, as Pillow does in a third of the time; a level may be the next."""
    image = pixels[None].permute(0, 3, 1, 2)  # channels last in memory, and so is the result
    if image.device.type != "cpu":  # only the CPU resizes bytes
        image = image.float()
    image = F.interpolate(image, (height, width), mode="bilinear", antialias=True)
    image = image if image.dtype == torch.uint8 else image.round().clamp(0, 255).to(torch.uint8)
    return image[0].permute(1, 2, 0)
