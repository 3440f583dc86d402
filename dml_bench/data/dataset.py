"""What a data set is here: two class-disjoint sets of images, or of their features, and the registry of data sets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dml_bench.data.pictures import ImageArray, Photos, SelectedImages, SelectedPhotos, UniformPhotos
from dml_bench.data.pictures import Images as Images
from dml_bench.errors import DataError
from dml_bench.registry import Registry

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImageSet:
    """Labelled images of one size, or features that another network made of images.

    Args:
        images: ``(N, H, W, C)`` uint8 with C = 1 or 3, as they are when a network is tested; may be a read-only memory
            map, or decoded when asked for: take a part at a time. Features are ``(N, D)`` float32.
        labels: ``(N,)`` int64 in ``[0, len(class_names))``; every class has at least one image.
        class_names: the name of each label.
        groups: ``(N,)`` int64, the super-class of each image, which is that of its class, if there are any.
        known_digest: of the content, where it is known without reading every pixel; see ``digest``.
        whole: gives the photos the images were cut from, reduced to a short side in pixels; None if there are none.

    Raises:
        DataError: when shapes, types or labels do not fit together, or a class is empty.
    """

    images: ImageArray
    labels: Labels
    class_names: tuple[str, ...]
    groups: Labels | None = None
    known_digest: str | None = None
    whole: Callable[[int], Photos] | None = None

    def __post_init__(self) -> None:
        pictures = self.images.ndim == 4 and self.images.dtype == np.uint8 and self.images.shape[3] in (1, 3)
        if not pictures and not (self.images.ndim == 2 and self.images.dtype == np.float32):
            raise DataError(
                f"images must be uint8 (N, H, W, 1 or 3), or features float32 (N, D), not {self.images.dtype} "
                f"{self.images.shape}"
            )
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != np.int64:
            raise DataError(f"labels must be int64 ({len(self.images)},), not {self.labels.dtype} {self.labels.shape}")
        if len(self) and not (self.labels.min() >= 0 and self.labels.max() < self.num_classes):
            raise DataError(f"labels must lie in [0, {self.num_classes})")
        if self.groups is not None and self.groups.shape != self.labels.shape:
            raise DataError(f"groups must be int64 ({len(self)},), not {self.groups.dtype} {self.groups.shape}")
        empty = [self.class_names[c] for c in np.flatnonzero(self.class_counts == 0)]
        if empty or not self.num_classes:
            raise DataError(f"{len(empty)} classes without an image: {', '.join(empty[:5]) or 'there is no class'}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height, width and channels of every image, or the number of features."""
        return tuple(self.images.shape[1:])

    @cached_property
    def class_counts(self) -> Labels:
        """``(C,)`` images per class."""
        return np.bincount(self.labels, minlength=self.num_classes).astype(np.int64)

    @cached_property
    def moments(self) -> tuple[list[float], list[float]]:
        """Mean and deviation per channel in [0, 1], of evenly spaced images: at most 4,096, and 64 million pixels.

        Of features, mean and deviation of each over all items; one that hardly varies has deviation 1.
        """
        if len(self.image_shape) == 1:
            return feature_moments(self.images)
        height, width, channels = self.image_shape
        most = max(1, min(4096, 2**26 // (height * width)))
        rows = np.arange(0, len(self), -(-len(self) // most))
        counts = np.zeros((channels, 256), dtype=np.int64)
        for start in range(0, len(rows), 64):
            part = self.images[rows[start : start + 64]]
            counts += [np.bincount(part[..., c].ravel(), minlength=256) for c in range(channels)]
        levels, share = np.arange(256) / 255, counts / counts.sum(axis=1, keepdims=True)
        mean = share @ levels
        deviation = np.sqrt((share * (levels - mean[:, None]) ** 2).sum(axis=1))
        return mean.tolist(), np.maximum(deviation, 1e-3).tolist()

    @cached_property
    def digest(self) -> str:
        """sha256 over pixels, labels and class names: one changed pixel or label gives another.

        Of photos, which are large, it is taken over the bytes of the files and what is cut out of them instead.
        """
        if self.known_digest is not None:
            return self.known_digest
        sha = hashlib.sha256(repr((self.images.shape, self.class_names)).encode())
        for start in range(0, len(self), 4096):
            sha.update(np.ascontiguousarray(self.images[start : start + 4096]).data)
        sha.update(np.ascontiguousarray(self.labels).data)
        return sha.hexdigest()

    def photos(self, short_side: int) -> Photos:
        """Return whole photos to cut random crops from; where there are none, the images themselves.

        Args:
            short_side: larger photos are reduced to it, in pixels.
        """
        return self.whole(short_side) if self.whole else UniformPhotos(self.images)

    def select(self, rows: Labels, labels: Labels | None = None) -> ImageSet:
        """Return some of the images, none copied, their classes renumbered in the order of the names here.

        Args:
            rows: ``(M,)`` positions of the images to keep.
            labels: ``(M,)`` other labels for them, in the numbering here.
        """
        kept = self.labels[rows] if labels is None else labels
        present, renumbered = np.unique(kept, return_inverse=True)
        whole, groups = self.whole, None
        if self.groups is not None:
            of_class = np.zeros(self.num_classes, dtype=np.int64)
            of_class[self.labels] = self.groups
            groups = of_class[kept]
        digest = hashlib.sha256(f"{self.digest}{present.tolist()}".encode())
        digest.update(np.ascontiguousarray(rows).data)
        digest.update(np.ascontiguousarray(kept).data)
        return ImageSet(
            SelectedImages.of(self.images, rows),
            renumbered.astype(np.int64),
            tuple(self.class_names[c] for c in present),
            groups,
            digest.hexdigest(),
            None if whole is None else lambda short_side: SelectedPhotos.of(whole(short_side), rows),
        )


def feature_moments(features: ImageArray) -> tuple[list[float], list[float]]:
    """Return mean and deviation of each feature ``(N, D)``, the deviation 1 where it is below 1e-6 of the largest."""
    parts = [features[start : start + 4096].astype(np.float64) for start in range(0, len(features), 4096)]
    mean = sum(part.sum(axis=0) for part in parts) / len(features)
    deviation = np.sqrt(sum(((part - mean) ** 2).sum(axis=0) for part in parts) / len(features))
    return mean.tolist(), np.where(deviation > 1e-6 * deviation.max(), deviation, 1.0).tolist()


@dataclass(frozen=True)
class Pairs:
    """Pairs of images to be told same or different, in folds.

    Args:
        first: ``(P,)`` indices into the test images.
        second: ``(P,)`` indices into the test images.
        same: ``(P,)`` whether both show the same class.
        folds: ``(P,)`` number of the fold, from 0.
    """

    first: Labels
    second: Labels
    same: npt.NDArray[np.bool_]
    folds: Labels

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class Split:
    """A data set as metric learning uses it: train on some classes, test retrieval on others.

    Args:
        name: of the data set.
        train: what is learned from.
        test: what is retrieved, or both sides of it.
        query: ``(N,)`` which test images are queries; None means all.
        gallery: ``(N,)`` which test images are retrieved; None means all.
        variant: what makes this another protocol than the data set's own, such as ``("partial", "boxes")``.
        pairs: for verification, over the test images.
        validation: classes held out of ``train`` to select a network on, if any are.
        known_digest: of content and split, where a part of the training classes is held out.
    """

    name: str
    train: ImageSet
    test: ImageSet
    query: npt.NDArray[np.bool_] | None = None
    gallery: npt.NDArray[np.bool_] | None = None
    variant: tuple[str, ...] = ()
    pairs: Pairs | None = None
    validation: ImageSet | None = None
    known_digest: str | None = None

    def __post_init__(self) -> None:
        if (self.query is None) != (self.gallery is None):
            raise DataError("a split has both queries and a gallery, or neither")
        for what, mask in (("query", self.query), ("gallery", self.gallery)):
            if mask is not None and (mask.shape != self.test.labels.shape or not mask.any()):
                raise DataError(f"{what}: must mark some of the {len(self.test)} test images")

    @cached_property
    def digest(self) -> str:
        """One digest for content and split together: images, labels, queries, gallery, pairs and variant."""
        if self.known_digest is not None:
            return self.known_digest
        sha = hashlib.sha256(f"{self.train.digest}{self.test.digest}".encode())
        if self.variant:
            sha.update(repr(sorted(self.variant)).encode())
        pairs = () if self.pairs is None else vars(self.pairs).values()
        for array in (self.query, self.gallery, *pairs):
            if array is not None:
                sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()


ARRAYS = ("digits", "glyphs", "omniglot", "mnist", "cifar", "embeddings")
FILES = ("cub200", "cars196", "sop", "inshop", "caltech101", "grocery_store", "lfw", "folder", "table")

DATASETS: Registry[Split] = Registry("datasets", [f"dml_bench.data.{module}" for module in (*ARRAYS, *FILES)])
"""Factories ``(root: Path | None, /, *, ...) -> Split``; ``root`` is the folder that holds the downloaded data sets."""
