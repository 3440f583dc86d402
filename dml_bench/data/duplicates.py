"""Near-duplicate images across the training and the test part of a data set. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from dml_bench.data.pictures import ImageArray

BITS = 10
"""Of the 64 bits of their hashes, near-duplicates differ in at most so many."""
LIKENESS = 0.95
"""Least correlation of the small grey versions of near-duplicates. Of real photos of different classes (Caltech-101,
Grocery Store, CUB-200-2011, Cars196, reduced in size) no pair reaches both bounds. Photos saved anew with half the
pixels, with JPEG quality 20, a fifth brighter or with 2 % cut off on every side do nearly always; shifted by a pixel
every second one does, and mirrored or cropped by more hardly any: nothing found is no proof that there is nothing."""
SMALL, SMALL_LIKENESS = 48, 0.99
"""Below so many pixels a side different things look alike (coats and shirts of Fashion-MNIST), so more is asked for."""
SIDE = 16
"""Side of the small grey versions, pixels."""
BLOCK = 512
"""Images that are compared with all others at once."""
CANDIDATES = 1 << 15
"""Pairs of like hashes whose small versions are compared at once."""

Hashes = npt.NDArray[np.float32]
Grey = npt.NDArray[np.float32]


@dataclass(frozen=True)
class NearDuplicate:
    """A training and a test image that look the same.

    Attributes:
        train: position of the training image.
        test: position of the test image.
        bits: of the 64 bits of their hashes, how many differ.
        likeness: correlation of their small grey versions, at most 1.
    """

    train: int
    test: int
    bits: int
    likeness: float


def near_duplicates(
    train: ImageArray, test: ImageArray, *, bits: int = BITS, likeness: float | None = None
) -> list[NearDuplicate]:
    """Return the pairs of a training and a test image that look the same, the most alike first.

    Two images do if the signs of their horizontal gradients, 8 x 8 of them (the difference hash), differ in at most
    ``bits`` places and their small grey versions correlate at least with ``likeness``. The second keeps apart images
    with large plain areas, whose hashes say little. An image of one colour resembles nothing.

    Args:
        train: ``(N, H, W, C)`` uint8.
        test: ``(M, H, W, C)`` uint8.
        bits: 0 to 64.
        likeness: -1 to 1; None takes ``LIKENESS``, or ``SMALL_LIKENESS`` of small images.

    Source: Krawetz, "Kind of like that", 2013 (the difference hash).
    Differs: the second condition.
    """
    least = (LIKENESS if min(test.shape[1:3]) >= SMALL else SMALL_LIKENESS) if likeness is None else likeness
    hashes, small = looks(train)
    their_hashes, their_small = looks(test)
    found = []
    for start in range(0, len(test), BLOCK):
        # Signs are +1 and -1, so that 64 less the product is twice the number of bits that differ.
        differ = (64 - their_hashes[start : start + BLOCK] @ hashes.T) / 2
        rows, columns = np.nonzero(differ <= bits)
        for part in range(0, len(rows), CANDIDATES):
            row, column = rows[part : part + CANDIDATES], columns[part : part + CANDIDATES]
            alike = np.einsum("nd,nd->n", their_small[start + row], small[column])
            kept = np.flatnonzero(alike >= least)
            pairs = zip(column[kept], start + row[kept], differ[row[kept], column[kept]], alike[kept], strict=True)
            found += [NearDuplicate(int(i), int(j), int(count), min(float(like), 1.0)) for i, j, count, like in pairs]
    return sorted(found, key=lambda pair: (-pair.likeness, pair.bits, pair.test, pair.train))


def looks(images: ImageArray) -> tuple[Hashes, Grey]:
    """Return what images look like: ``(N, 64)`` signs of gradients, and ``(N, 256)`` grey versions of length 1."""
    hashes, small = np.empty((len(images), 64), np.float32), np.empty((len(images), SIDE * SIDE), np.float32)
    for row, picture in enumerate(_pictures(images)):
        wide = np.asarray(picture.resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
        hashes[row] = np.where(np.diff(wide, axis=1) > 0, 1, -1).ravel()
        pixels = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32).ravel()
        centered = pixels - pixels.mean()
        length = float(np.linalg.norm(centered))
        small[row] = centered / length if length > 1e-3 else 0
    return hashes, small


def _pictures(images: ImageArray) -> Iterator[Image.Image]:
    """Yield images in grey, a few of them in memory at a time."""
    for start in range(0, len(images), BLOCK):
        for image in images[start : start + BLOCK]:
            picture = Image.fromarray(np.ascontiguousarray(image.squeeze(2) if image.shape[2] == 1 else image))
            yield picture.convert("L")
