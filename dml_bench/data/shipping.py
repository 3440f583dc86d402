"""A data set as plain arrays, which can be sent to a machine that has none of its files. Needs no torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dml_bench.data.dataset import ImageSet, Split
from dml_bench.data.pictures import PackedPhotos, pack


def in_memory(split: Split, photo_side: int | None = None) -> Split:
    """Return a split that reads no file: every image decoded, as a plain array that pickles without a copy.

    Args:
        split: with images that may be memory maps, or decoded when asked for.
        photo_side: short side of the whole photos of the training images, pixels; None leaves them behind.
    """
    train = _decoded(split.train)
    if photo_side is not None and split.train.whole is not None:
        photos = split.train.photos(photo_side)
        packed = PackedPhotos(**pack([photo for row in range(len(photos)) for photo in photos.take(np.array([row]))]))
        train = replace(train, whole={photo_side: packed}.__getitem__)
    validation = split.validation and _decoded(split.validation)
    return replace(split, train=train, test=_decoded(split.test), validation=validation, known_digest=split.digest)


def _decoded(images: ImageSet) -> ImageSet:
    return replace(images, images=np.array(images.images[:]), whole=None, known_digest=images.digest)
