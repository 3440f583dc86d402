"""From the image files of a data set to the images a network sees: decoded once and cached, or anew for each batch.

At test time the short side is resized and the centre cut out, as the published protocols do. For random crops in
training there are the whole photos, reduced to a short side that the recipe chooses. Needs no torch.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated

import numpy as np
from PIL import Image
from PIL import __version__ as pillow_version
from pydantic import Field

from dml_bench.data.cache import Arrays, cache_folder, cached_rows
from dml_bench.data.dataset import ImageSet, Split
from dml_bench.data.listing import GALLERY, QUERY, TEST, TRAIN, Listing, make_split
from dml_bench.data.photo import Color, centre_crop, pixels_of, read_photo, resize, resized, squeeze
from dml_bench.data.pictures import (
    ImageArray,
    Images,
    LazyImages,
    LazyPhotos,
    PackedPhotos,
    Photos,
    Rows,
    SelectedImages,
    pack,
)
from dml_bench.data.telling import tell, telling
from dml_bench.errors import OptionError, Problem

Side = Annotated[int, Field(ge=8, le=1024)]
Render = Callable[[Image.Image], Images]


@dataclass(frozen=True)
class Transform:
    """What is done to a photo at test time: resize the short side, cut out the central square; both in pixels."""

    resize: int
    size: int
    color: Color

    def __call__(self, photo: Image.Image) -> Images:
        """Return ``(H, W, C)`` uint8."""
        return pixels_of(centre_crop(resize(photo, self.resize), self.size))


class SquareTransform(Transform):
    """The same, but both sides are resized to ``resize`` pixels, whatever the photo's shape."""

    def __call__(self, photo: Image.Image) -> Images:
        """Return ``(H, W, C)`` uint8."""
        return super().__call__(squeeze(photo, self.resize))


@dataclass(frozen=True)
class Shrink:
    """Keep the whole photo, a larger short side reduced to so many pixels, with the resizing of the random crops."""

    short_side: int

    def __call__(self, photo: Image.Image) -> Images:
        """Return ``(H, W, C)`` uint8."""
        if min(photo.size) <= self.short_side:
            return pixels_of(photo)
        import torch  # here, as it takes seconds to load and only training with random crops needs it

        from dml_bench.data.crops import resize_bytes

        width, height = resized(photo.size, self.short_side)
        return resize_bytes(torch.from_numpy(np.array(pixels_of(photo))), height, width).numpy()


class SquareShrink(Shrink):
    """Keep the whole photo, both sides resized to so many pixels."""

    def __call__(self, photo: Image.Image) -> Images:
        """Return ``(H, W, C)`` uint8."""
        return pixels_of(squeeze(photo, self.short_side))


def decode(
    listing: Listing,
    /,
    *,
    image_size: Side = 64,
    resize: Side | None = None,
    square: bool = False,
    color: Color = "rgb",
) -> Split:
    """Turn the files of a data set into images.

    Args:
        listing: the files.
        image_size: height and width of the images, pixels.
        resize: short side that a photo is resized to before its centre is cut out; null takes ``image_size``. The
            protocol of most papers is 256 and 224.
        square: whether both sides are resized to it instead, which changes the shape of things.
        color: ``rgb`` or ``grey``.

    Raises:
        OptionError: if ``resize`` is smaller than ``image_size``.
        DataError: naming the file, if one is no image or damaged.
    """
    transform = transform_of(image_size=image_size, resize=resize, square=square, color=color)
    images, digests = _images(listing, transform)
    parts = (_part(listing, listing.part(*roles), images, digests, transform) for roles in _PARTS)
    return make_split(listing, *parts)


_PARTS = ((TRAIN,), (TEST, QUERY, GALLERY))


def transform_of(*, image_size: int, resize: int | None, square: bool, color: Color) -> Transform:
    """Return what the options of ``decode`` do to a photo.

    Raises:
        OptionError: if ``resize`` is smaller than ``image_size``.
    """
    if resize is not None and resize < image_size:
        raise OptionError([Problem(("resize",), f"must be at least image_size, {image_size}, not {resize}")])
    return (SquareTransform if square else Transform)(resize or image_size, image_size, color)


def _part(
    listing: Listing, rows: Rows, images: ImageArray, digests: Callable[[], Images], transform: Transform
) -> ImageSet:
    labels, names = listing.renumbered(rows)
    supers = None if listing.super_labels is None else listing.super_labels[listing.labels[rows]]
    sha = hashlib.sha256(repr((transform, names)).encode())
    for facts in (digests()[rows], labels, None if listing.boxes is None else listing.boxes[rows]):
        sha.update(b"" if facts is None else np.ascontiguousarray(facts).data)

    def whole(short_side: int) -> Photos:
        render = (SquareShrink if isinstance(transform, SquareTransform) else Shrink)(short_side)
        return _photos(listing, rows, render, transform.color)

    return ImageSet(SelectedImages.of(images, rows), labels, names, supers, sha.hexdigest(), whole)


def _images(listing: Listing, transform: Transform) -> tuple[ImageArray, Callable[[], Images]]:
    """Return the images of all files as they are tested, and how to get the digest ``(32,)`` of each file."""
    rows = np.arange(len(listing))
    shape = (len(rows), transform.size, transform.size, 1 if transform.color == "grey" else 3)
    key = {"dataset": listing.name, "source": listing.fingerprint, "decoded by": pillow_version, "version": 1}

    def pieces() -> Iterator[Arrays]:
        _check_room(int(np.prod(shape)))
        for image, digest in _decoded(listing, rows, transform, transform.color, say=True):
            yield {"images": image[None], "digests": digest[None]}

    try:
        arrays = cached_rows({**key, "transform": repr(transform)}, pieces)
        return arrays["images"], lambda: arrays["digests"]
    except (OSError, RuntimeError) as error:
        _say_uncached(listing, error)

    def make(wanted: Rows) -> Images:
        return np.stack([image for image, _ in _decoded(listing, wanted, transform, transform.color)])

    return LazyImages(shape, make), lambda: np.stack([_digest(data) for _, data in _files(listing, rows)])


def _photos(listing: Listing, rows: Rows, render: Shrink, color: Color) -> Photos:
    """Return some of the photos whole."""
    chosen = hashlib.sha256(np.ascontiguousarray(rows).data).hexdigest()
    key = {"dataset": listing.name, "source": listing.fingerprint, "decoded by": pillow_version, "version": 2}
    key["resized by"] = version("torch")
    key |= {"square": True} if isinstance(render, SquareShrink) else {}

    def pieces() -> Iterator[Arrays]:
        return (pack([photo]) for photo, _ in _decoded(listing, rows, render, color, say=True))

    try:
        arrays = cached_rows({**key, "rows": chosen, "short side": render.short_side, "color": color}, pieces)
        return PackedPhotos(arrays["pixels"], arrays["shapes"])
    except (OSError, RuntimeError) as error:
        _say_uncached(listing, error)
    return LazyPhotos(len(rows), lambda wanted: [p for p, _ in _decoded(listing, rows[wanted], render, color)])


def _decoded(
    listing: Listing, rows: Rows, render: Render, color: Color, *, say: bool = False
) -> Iterator[tuple[Images, Images]]:
    """Yield image and digest of the files ``rows``, in this order: one thread reads, one per core decodes.

    Pillow decodes and resizes without Python's global lock, so threads do, and nothing is copied between processes.
    """

    def one(row: int, data: bytes) -> tuple[Images, Images]:
        box = None if listing.boxes is None else tuple(listing.boxes[row].tolist())
        photo = read_photo(data, f"{listing.source.path}/{listing.paths[row]}", color, box)
        return render(photo), _digest(data)

    def results() -> Iterator[tuple[Images, Images]]:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        waiting: deque[Future[tuple[Images, Images]]] = deque()
        with ThreadPoolExecutor(workers) as pool:
            for row, data in _files(listing, rows):
                waiting.append(pool.submit(one, row, data))
                if len(waiting) >= 8 * workers:  # a bound on memory
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    return telling(results(), len(rows), f"decoding {listing.name}") if say else results()


def _files(listing: Listing, rows: Rows) -> Iterator[tuple[int, bytes]]:
    """Yield position and bytes of each file."""
    wanted = rows.tolist()
    return zip(wanted, listing.source.read([listing.paths[row] for row in wanted]), strict=True)


def _digest(data: bytes) -> Images:
    return np.frombuffer(hashlib.sha256(data).digest(), dtype=np.uint8)


def _check_room(needed: int) -> None:
    """Raise an OSError before the disk is filled for nothing."""
    free = shutil.disk_usage(cache_folder()).free
    if needed > free:
        raise OSError(f"{cache_folder()}: needs {needed / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free")


def _say_uncached(listing: Listing, error: Exception) -> None:
    tell(f"{listing.name}: no cache ({error}); every batch is decoded anew, which is slower and gives the same numbers")
