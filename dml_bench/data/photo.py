"""From the bytes of one image file to 8-bit pixels, as a photographer would expect them. Needs no torch."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageChops, ImageOps, UnidentifiedImageError

from dml_bench.errors import DataError

Color = Literal["rgb", "grey"]
Box = tuple[float, float, float, float]

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000")
"""What is read; not the formats that start other programs, such as EPS."""

UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    MemoryError,
    OverflowError,
    zlib.error,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow raises for a file that is no image, or a damaged one."""


def read_photo(data: bytes, where: str, color: Color = "rgb", box: Box | None = None) -> Image.Image:
    """Decode an image file: upright, 8 bits, in color or grey, and cropped to ``box`` if there is one.

    Args:
        data: the bytes of the file; of an animation the first frame counts.
        where: names the file in errors.
        color: ``rgb`` or ``grey``.
        box: left, top, right, bottom in pixels of the upright image, right and bottom exclusive; what of it lies
            outside is cut off.

    Raises:
        DataError: naming the file, if it is no image, is damaged or cut short, or the box holds no pixel.
    """
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            image.load()
            photo = convert(image, color)
    except UNREADABLE as error:
        reason = "no image of a known kind" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DataError(f"{where}: not a readable image: {reason}") from error
    return photo if box is None else _cut(photo, box, where)


def convert(image: Image.Image, color: Color = "rgb") -> Image.Image:
    """Return an opened image upright, with 8 bits per channel, as RGB or grey.

    What is transparent shows white paper. 16 bits keep their upper 8, rounded. CMYK means ink, whichever way round a
    JPEG stores it. Grey is ITU-R 601 luma. Colour profiles are not applied.

    Raises:
        ValueError: for numbers that have no natural brightness: floats, and integers above 65535.
    """
    mode = "L" if color == "grey" else "RGB"
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    upright = ImageOps.exif_transpose(image) if turned else image  # which copies even if nothing is to be turned
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        upright = ImageChops.invert(upright)  # Pillow takes every such JPEG for Adobe's, which stores it inverted
    if upright.mode.startswith("I"):
        return _from_16_bits(upright).convert(mode)
    if upright.mode == "F":
        raise ValueError("floating-point pixels have no defined white; convert the file to 8 or 16 bits")
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        upright = Image.alpha_composite(paper, layer).convert("RGB")
    return upright if upright.mode == mode else upright.convert(mode)


def squeeze(photo: Image.Image, side: int) -> Image.Image:
    """Resize both sides to ``side`` pixels, antialiased, whatever the photo's shape.

    Source: torchvision's ``Resize`` with two numbers, on a Pillow image.
    """
    return photo if photo.size == (side, side) else photo.resize((side, side), Image.Resampling.BILINEAR)


def resize(photo: Image.Image, short_side: int) -> Image.Image:
    """Give the short side this many pixels, bilinearly with antialiasing; the long side is rounded down.

    Source: the ``Resize`` of torchvision on a Pillow image, which the published protocols use.
    """
    size = resized(photo.size, short_side)
    return photo if size == photo.size else photo.resize(size, Image.Resampling.BILINEAR)


def resized(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """Return width and height after the short side was given this many pixels."""
    width, height = size
    other = max(1, int(short_side * max(size) / min(size)))
    return (short_side, other) if width <= height else (other, short_side)


def centre_crop(photo: Image.Image, size: int) -> Image.Image:
    """Cut the central square of ``size`` pixels out of a photo that is at least as large, as torchvision rounds."""
    left, top = round((photo.width - size) / 2.0), round((photo.height - size) / 2.0)
    return photo.crop((left, top, left + size, top + size))


def pixels_of(photo: Image.Image) -> npt.NDArray[np.uint8]:
    """Return ``(H, W, C)`` uint8."""
    pixels = np.asarray(photo)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _from_16_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("integer pixels outside 0 to 65535 have no defined white; convert the file to 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _cut(photo: Image.Image, box: Box, where: str) -> Image.Image:
    left, top, right, bottom = (round(side) for side in box)
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, photo.width), min(bottom, photo.height)
    if left >= right or top >= bottom:
        raise DataError(f"{where}: its box {box} holds no pixel of the image, {photo.width} x {photo.height}")
    return photo.crop((left, top, right, bottom))
