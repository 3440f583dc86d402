"""What a data set consists of before any image is decoded: names, labels, roles, boxes, and where the bytes lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from dml_bench.data.dataset import ImageSet, Labels, Pairs, Split
from dml_bench.errors import DataError

Indices = npt.NDArray[np.int64]
Roles = npt.NDArray[np.int8]

TRAIN, TEST, QUERY, GALLERY = range(4)
ROLES = ("train", "test", "query", "gallery")
"""What an image is for. ``test`` images are queries against all others; ``query`` ones against the gallery alone."""


@runtime_checkable
class Source(Protocol):
    """Where the bytes of images lie: a zip or tar file, a folder, or several of these."""

    @property
    def path(self) -> Path:
        """The file or folder, for messages."""

    @property
    def stamps(self) -> Mapping[str, tuple[int, ...]]:
        """Every file that is no stray, with its size and what else shows that its content changed."""

    @property
    def strays(self) -> tuple[str, ...]:
        """Files that are passed over: ``._*``, ``.DS_Store``, ``Thumbs.db``, ``__MACOSX``."""

    def read(self, names: Sequence[str]) -> Iterator[bytes]:
        """Yield the bytes of each named file, in this order; several threads and processes may do so at once."""


@dataclass(frozen=True)
class Listing:
    """The images of a data set, undecoded.

    Args:
        name: of the data set.
        source: where the bytes lie.
        paths: ``N`` names inside ``source``, parts joined by ``/``.
        labels: ``(N,)`` index into ``class_names``.
        roles: ``(N,)`` index into ``ROLES``.
        class_names: of all classes, those to train on and those to test on alike.
        boxes: ``(N, 4)`` left, top, right, bottom in pixels of the stored image, the last two exclusive; each image is
            cut to its box before anything else. None keeps whole images.
        super_labels: ``(C,)`` the super-class of each class, if there are any.
        variant: what makes this another protocol than the data set's own, such as ``("partial", "boxes")``.
        pairs: for verification, over the images that are not for training, in their order.

    Raises:
        DataError: when an image is named twice, or labels, roles and boxes do not fit together.
    """

    name: str
    source: Source
    paths: tuple[str, ...]
    labels: Labels
    roles: Roles
    class_names: tuple[str, ...]
    boxes: npt.NDArray[np.float64] | None = None
    super_labels: Labels | None = None
    variant: tuple[str, ...] = ()
    pairs: Pairs | None = None

    def __post_init__(self) -> None:
        count = len(self.paths)
        if not count:
            raise DataError(f"{self.source.path}: there is no image of {self.name} in it")
        if len(set(self.paths)) < count:
            seen: set[str] = set()
            twice = next(path for path in self.paths if path in seen or seen.add(path))  # type: ignore[func-returns-value]
            raise DataError(f"{self.source.path}: the list names the image '{twice}' twice")
        for what, found, shape in (
            ("labels", self.labels.shape, (count,)),
            ("roles", self.roles.shape, (count,)),
            ("boxes", (count, 4) if self.boxes is None else self.boxes.shape, (count, 4)),
        ):
            if found != shape:
                raise DataError(f"{self.name}: {what} must be {shape}, not {found}")

        if self.boxes is not None and not np.isfinite(self.boxes).all():
            wrong = int((~np.isfinite(self.boxes)).any(axis=1).argmax())
            raise DataError(f"{self.source.path}: the box of {self.paths[wrong]} is none: {self.boxes[wrong].tolist()}")

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of what decides the pixels: names, sizes, checksums and boxes; no matter where the files lie."""
        stamps = self.source.stamps
        sha = hashlib.sha256(repr([(path, stamps[path]) for path in self.paths]).encode())
        if self.boxes is not None:
            sha.update(np.ascontiguousarray(self.boxes).data)
        return sha.hexdigest()

    def part(self, *roles: int) -> Indices:
        """Return the indices of the images with these roles."""
        return np.flatnonzero(np.isin(self.roles, roles)).astype(np.int64)

    def renumbered(self, indices: Indices) -> tuple[Labels, tuple[str, ...]]:
        """Return labels of some images, numbered from 0 without gaps, and the names of these classes."""
        classes, labels = np.unique(self.labels[indices], return_inverse=True)
        return labels.astype(np.int64), tuple(self.class_names[label] for label in classes)


def make_split(listing: Listing, train: ImageSet, test: ImageSet) -> Split:
    """Join decoded images, those of ``part(TRAIN)`` and those of ``part(TEST, QUERY, GALLERY)``, to a split."""
    roles = listing.roles[listing.part(TEST, QUERY, GALLERY)]
    matched = bool((roles != TEST).any())
    return Split(
        listing.name,
        train,
        test,
        query=roles != GALLERY if matched else None,
        gallery=roles != QUERY if matched else None,
        variant=listing.variant,
        pairs=listing.pairs,
    )
