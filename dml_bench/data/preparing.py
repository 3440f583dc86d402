"""From any image file to what a network of some data set takes: as the test images of that data set were made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from dml_bench.data.catalog import LISTINGS
from dml_bench.data.dataset import DATASETS
from dml_bench.data.decoding import SquareTransform, Transform, transform_of
from dml_bench.data.photo import Color, pixels_of, read_photo
from dml_bench.data.pictures import Images
from dml_bench.errors import DataError


@dataclass(frozen=True)
class Squeeze:
    """Resize both sides to ``size`` pixels by ``filter``, and turn black on white into white on black if ``inverted``.

    A photo of that size keeps every pixel.
    """

    size: int
    filter: Image.Resampling
    inverted: bool = False

    def __call__(self, photo: Image.Image) -> Images:
        """Return ``(H, W, C)`` uint8."""
        size = (self.size, self.size)
        squeezed = photo if photo.size == size else photo.resize(size, self.filter)
        return pixels_of(ImageOps.invert(squeezed) if self.inverted else squeezed)


@dataclass(frozen=True)
class AsItIs:
    """Take an image that has the right size, ``height`` x ``width``, and refuse others."""

    height: int
    width: int

    def __call__(self, photo: Image.Image) -> Images:
        """Return ``(H, W, C)`` uint8."""
        if photo.size != (self.width, self.height):
            raise DataError(f"must be {self.width} x {self.height} pixels, not {photo.width} x {photo.height}")
        return pixels_of(photo)


ARRAYS: Mapping[str, tuple[Image.Resampling, bool]] = {
    "digits": (Image.Resampling.BILINEAR, False),
    "glyphs": (Image.Resampling.BILINEAR, False),  # drawn at their size, so that others have to be brought to it
    "omniglot": (Image.Resampling.LANCZOS, True),
    "mnist": (Image.Resampling.LANCZOS, False),
    "fashion_mnist": (Image.Resampling.LANCZOS, False),
    "cifar10": (Image.Resampling.LANCZOS, False),
    "cifar100": (Image.Resampling.LANCZOS, False),
}
"""Of the data sets that are not photos: the filter of their resizing, and whether they turn black into white."""


@dataclass(frozen=True)
class Preparation:
    """What is done to an image file.

    Attributes:
        shape: height, width and channels of what comes out.
        render: from the photo, upright and in the right colours, to pixels.
        said: the same in words.
    """

    shape: tuple[int, int, int]
    render: Callable[[Image.Image], Images]
    said: str

    def __call__(self, data: bytes, where: str) -> Images:
        """Return ``(H, W, C)`` uint8.

        Raises:
            DataError: naming ``where``, if the bytes are no image, or one that is not taken.
        """
        color: Color = "grey" if self.shape[2] == 1 else "rgb"
        photo = read_photo(data, where, color)
        try:
            return np.ascontiguousarray(self.render(photo))
        except DataError as error:
            raise DataError(f"{where}: {error}") from None


def preparation(dataset: Mapping[str, Any], image_shape: Sequence[int]) -> Preparation:
    """Return what makes an image file like the test images of a data set.

    A data set may cut its images to boxes, which no one knows of other files: these are taken whole.

    Args:
        dataset: its name with all options, as in a checked recipe.
        image_shape: height, width and channels of its images.

    Raises:
        DataError: if it has features and no images.
    """
    name = str(dataset["name"])
    if len(image_shape) != 3:
        raise DataError(f"{name}: was run on features, and from an image there is no way to them here")
    height, width, channels = image_shape
    render: Callable[[Image.Image], Images] = AsItIs(height, width)
    said = f"{width} x {height} pixels as they are"  # of a plug-in, which may do anything
    if name in ARRAYS:
        render = Squeeze(height, *ARRAYS[name])
        said = f"resized to {width} x {height} pixels" + (", black and white inverted" if ARRAYS[name][1] else "")
    elif name in LISTINGS:
        options = DATASETS[name].check({key: value for key, value in dataset.items() if key != "name"})
        render = transform_of(**{key: options[key] for key in ("image_size", "resize", "square", "color")})
        said = _in_words(render) + (", not cut to a box" if options.get("boxes") else "")
    return Preparation((height, width, channels), render, f"{'grey' if channels == 1 else 'rgb'}, {said}")


def _in_words(transform: Transform) -> str:
    sides = "both sides" if isinstance(transform, SquareTransform) else "short side"
    return f"{sides} resized to {transform.resize} pixels, central {transform.size} x {transform.size} cut out"
