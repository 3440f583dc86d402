"""Data sets whose files hold arrays, not pictures: their split, and their images at another size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import numpy as np
from PIL import Image
from PIL import __version__ as pillow_version

from dml_bench.data.cache import cached_images
from dml_bench.data.dataset import Images, ImageSet, Labels, Split
from dml_bench.errors import DataError

T = TypeVar("T")
SplitRule = Literal["class_disjoint", "official_closed"]


def split_arrays(
    name: str,
    halves: Sequence[tuple[Images, Labels]],
    class_names: tuple[str, ...],
    rule: SplitRule,
    image_size: int,
    super_labels: Labels | None = None,
) -> Split:
    """Split images that come as an official training and test half.

    Args:
        name: of the data set.
        halves: images ``(N, H, W, C)`` and labels ``(N,)`` of both.
        class_names: the name of each label.
        rule: ``class_disjoint`` trains on the first half of the classes and tests on the others, and takes the images
            of both halves, in order; ``official_closed`` keeps the halves.
        image_size: height and width of the images returned.
        super_labels: ``(C,)`` the super-class of each class.
    """

    def groups(labels: Labels) -> Labels | None:
        return None if super_labels is None else super_labels[labels]

    halves = [(_resized(name, images, image_size), labels) for images, labels in halves]
    if rule == "official_closed":
        parts = [ImageSet(images, labels, class_names, groups(labels)) for images, labels in halves]
        return Split(name, parts[0], parts[1], variant=(rule,))
    images = np.concatenate([images for images, _ in halves])
    labels = np.concatenate([labels for _, labels in halves])
    middle = (len(class_names) + 1) // 2
    first = labels < middle
    return Split(
        name,
        ImageSet(images[first], labels[first], class_names[:middle], groups(labels[first])),
        ImageSet(images[~first], labels[~first] - middle, class_names[middle:], groups(labels[~first])),
    )


def every(reads: Sequence[Callable[[], T]]) -> list[T]:
    """Return what each of ``reads`` gives.

    Raises:
        DataError: naming what is wrong with every one of them, a line each.
    """
    found, faults = [], []
    for read in reads:
        try:
            found.append(read())
        except DataError as error:
            faults.append(str(error))
    if faults:
        raise DataError("\n".join(faults))
    return found


def _resized(name: str, images: Images, size: int) -> Images:
    if images.shape[1:3] == (size, size):
        return images
    source = hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()
    key = {"dataset": name, "version": 1, "image_size": size, "source": source, "resized by": pillow_version}
    return cached_images(key, lambda: {"images": _lanczos(images, size)})["images"]


def _lanczos(images: Images, size: int) -> Images:
    out = np.empty((len(images), size, size, images.shape[3]), dtype=np.uint8)
    for i, image in enumerate(images):
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        out[i] = np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS)).reshape(size, size, -1)
    return out
