"""Which images form a batch. Samplers draw indices only; these here see the training labels and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from dml_bench.data.dataset import ImageSet, Labels
from dml_bench.errors import DataError, OptionError, Problem
from dml_bench.registry import Count, Registry

Indices = npt.NDArray[np.int64]


@runtime_checkable
class Sampler(Protocol):
    """Batches of indices into the training set."""

    def __len__(self) -> int:
        """How many batches an epoch has."""

    @property
    def batch_size(self) -> int:
        """How many images a batch has."""

    def batches(self, rng: np.random.Generator, /) -> Iterator[Indices]:
        """Yield the batches ``(B,)`` of one epoch."""

    @property
    def coverage(self) -> str:
        """How many images an epoch draws and how many it leaves out, in words."""


SAMPLERS: Registry[Sampler] = Registry("samplers", ["dml_bench.data.informed", "dml_bench.data.balanced"])
"""Factories ``(labels: (N,) int64, [groups: (N,) int64 or None,] /, *, ...) -> Sampler``."""


def build_sampler(choice: Mapping[str, Any], train: ImageSet) -> Sampler:
    """Build the sampler that a recipe names, for a training set."""
    entry = SAMPLERS[choice["name"]]
    facts = (train.labels, train.groups)[: len(entry.facts)]
    return entry.build(*facts, **{key: value for key, value in choice.items() if key != "name"})


@dataclass(frozen=True)
class RandomBatches:
    """Every image once an epoch, shuffled; the images of an incomplete last batch are left out, or are one more."""

    images: int
    batch_size: int
    drop_last: bool = True

    def __len__(self) -> int:
        return max(1, self.images // self.batch_size if self.drop_last else -(-self.images // self.batch_size))

    def batches(self, rng: np.random.Generator, /) -> Iterator[Indices]:
        """Yield the batches of one epoch; the only batch, or the last one kept, may be smaller than ``batch_size``."""
        order = rng.permutation(self.images)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield order[start : start + self.batch_size]

    @property
    def coverage(self) -> str:
        """How many images an epoch draws and how many it leaves out, in words."""
        return coverage(min(self.images, len(self) * self.batch_size), self.images)


@dataclass(frozen=True)
class ClassBatches:
    """P classes and K images of each in every batch.

    An epoch: the images of each class are shuffled and cut into groups of K, what is over being left out of this epoch;
    a class of fewer than K images is one group, filled up by repeating them. Each batch takes one group of each of the
    P classes with the most groups left, ties at random; groups left when fewer than P classes have any are left out.
    Taking from the fullest first gives the largest possible number of batches. Their order is shuffled.
    """

    members: tuple[Indices, ...]
    classes_per_batch: int
    images_per_class: int

    @cached_property
    def groups(self) -> Indices:
        """``(C,)`` groups each class is cut into."""
        sizes = np.array([len(member) for member in self.members], dtype=np.int64)
        return np.maximum(1, sizes // self.images_per_class)

    @cached_property
    def _length(self) -> int:
        """The largest T with ``sum(min(groups, T)) >= T * classes_per_batch``: no class is in a batch twice."""
        low, high = 1, int(self.groups.sum()) // self.classes_per_batch
        while low < high:
            middle = (low + high + 1) // 2
            enough = np.minimum(self.groups, middle).sum() >= middle * self.classes_per_batch
            low, high = (middle, high) if enough else (low, middle - 1)
        return low

    def __len__(self) -> int:
        return self._length

    def batches(self, rng: np.random.Generator, /) -> Iterator[Indices]:
        """Yield the batches of one epoch, class after class within a batch."""
        size = self.images_per_class
        shuffled = (rng.permutation(member) for member in self.members)
        pools = [np.resize(pool, (groups, size)) for pool, groups in zip(shuffled, self.groups, strict=True)]
        left = self.groups.copy()
        for classes in rng.permutation(self._plan(rng)):
            left[classes] -= 1
            yield np.concatenate([pools[c][left[c]] for c in classes])

    def _plan(self, rng: np.random.Generator) -> Indices:
        """Choose the classes ``(T, P)`` of each batch."""
        left = self.groups.astype(np.float64)
        plan = np.empty((len(self), self.classes_per_batch), dtype=np.int64)
        for row in plan:
            row[:] = np.argpartition(-(left + rng.random(len(left))), self.classes_per_batch - 1)[: len(row)]
            left[row] -= 1
        return plan

    @property
    def batch_size(self) -> int:
        """How many images a batch has."""
        return self.classes_per_batch * self.images_per_class

    @property
    def coverage(self) -> str:
        """How many images an epoch draws and how many it leaves out, in words."""
        total = sum(len(member) for member in self.members)
        drawn = len(self) * self.classes_per_batch * self.images_per_class
        small = sum(len(member) < self.images_per_class for member in self.members)
        repeats = f"; {small} classes have fewer than {self.images_per_class} images and repeat them" if small else ""
        return coverage(drawn, total) + repeats


@SAMPLERS.register("random")
def random(labels: Labels, /, *, batch_size: Count = 64, drop_last: bool = True) -> Sampler:
    """Shuffle all images each epoch and cut them into batches, whatever their classes.

    With ``drop_last``, images of an incomplete last batch are left out of that epoch, unless it is the only batch.

    Raises:
        DataError: if there is no image.
    """
    check_some(labels)
    return RandomBatches(len(labels), min(batch_size, len(labels)), drop_last)


@SAMPLERS.register("pxk")
def pxk(labels: Labels, /, *, classes_per_batch: Count = 16, images_per_class: Count = 4) -> Sampler:
    """Fill each batch with P different classes and K images of each; an epoch sees every image about once.

    A class with fewer than K images repeats them. Images over when a class is cut into groups of K, and groups over
    when fewer than P classes have any, are left out of that epoch, others each time.

    Raises:
        DataError: if there is no image.
        OptionError: if there are fewer classes than a batch needs.
    """
    check_some(labels)
    members = members_of(labels)
    if classes_per_batch > len(members):
        message = f"must be at most the number of training classes, {len(members)}, not {classes_per_batch}"
        raise OptionError([Problem(("classes_per_batch",), message)])
    return ClassBatches(members, classes_per_batch, images_per_class)


def members_of(labels: Labels) -> tuple[Indices, ...]:
    """Return the images of each class, in the order of the labels."""
    order = np.argsort(labels, kind="stable").astype(np.int64)
    return tuple(np.split(order, np.flatnonzero(np.diff(labels[order])) + 1))


def check_some(labels: Labels) -> None:
    """Refuse to sample from no image with a DataError."""
    if not len(labels):
        raise DataError("there is no image to sample from")


def coverage(drawn: int, total: int) -> str:
    """Say how many of ``total`` images an epoch draws and how many it leaves out."""
    return f"an epoch draws {drawn} images of {total}" + (f" and leaves {total - drawn} out" if drawn < total else "")
