"""Samplers for classes of unequal size, and for classes that have super-classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dml_bench.data.dataset import Labels
from dml_bench.data.samplers import SAMPLERS, Indices, Sampler, check_some, members_of
from dml_bench.errors import OptionError, Problem
from dml_bench.registry import Count


@dataclass(frozen=True)
class WeightedClasses:
    """Batches of images whose classes are drawn by chance, each by its own.

    An epoch has as many batches as the images fill. The images of a class come in shuffled order, and again from the
    start, shuffled anew, when it is drawn more often than it has images.

    Args:
        members: the images of each class.
        chances: ``(C,)`` of each class, sum 1.
        batch_size: images per batch.
    """

    members: tuple[Indices, ...]
    chances: npt.NDArray[np.float64]
    batch_size: int

    def __len__(self) -> int:
        return self._total // self.batch_size

    @cached_property
    def _total(self) -> int:
        return sum(map(len, self.members))

    def batches(self, rng: np.random.Generator, /) -> Iterator[Indices]:
        """Yield the batches of one epoch."""
        drawn = rng.choice(len(self.members), size=len(self) * self.batch_size, p=self.chances)
        images = np.empty(len(drawn), dtype=np.int64)
        for label in np.unique(drawn):
            places = np.flatnonzero(drawn == label)
            member = self.members[label]
            rounds = -(-len(places) // len(member))
            images[places] = np.concatenate([rng.permutation(member) for _ in range(rounds)])[: len(places)]
        yield from images.reshape(len(self), self.batch_size)

    @property
    def coverage(self) -> str:
        """How many images an epoch draws, and how often one of the smallest and of the largest class, in words."""
        sizes = np.array([len(member) for member in self.members])
        drawn = len(self) * self.batch_size
        often = drawn * self.chances / sizes
        return (
            f"an epoch draws {drawn} images out of {self._total}: each image of the smallest class "
            f"{often[sizes.argmin()]:.2g} times on average, of the largest {often[sizes.argmax()]:.2g} times"
        )


@SAMPLERS.register("class_balanced")
def class_balanced(labels: Labels, /, *, batch_size: Count = 64) -> Sampler:
    """Draw every class equally often, whatever its size; an epoch draws as many images as there are.

    Raises:
        DataError: if there is no image.
    """
    return _weighted(labels, batch_size, 0.0)


@SAMPLERS.register("sqrt_balanced")
def sqrt_balanced(labels: Labels, /, *, batch_size: Count = 64) -> Sampler:
    """Draw classes in proportion to the square root of their size; an epoch draws as many images as there are.

    Source: Mahajan et al., Exploring the Limits of Weakly Supervised Pretraining, ECCV 2018 (square-root sampling).

    Raises:
        DataError: if there is no image.
    """
    return _weighted(labels, batch_size, 0.5)


def _weighted(labels: Labels, batch_size: int, power: float) -> Sampler:
    check_some(labels)
    members = members_of(labels)
    weights = np.array([len(member) for member in members], dtype=np.float64) ** power
    return WeightedClasses(members, weights / weights.sum(), min(batch_size, len(labels)))


@dataclass(frozen=True)
class GroupBatches:
    """Super-classes, classes of each, and images of each class in every batch.

    An epoch has as many batches as the images fill. Super-classes take turns in shuffled order, so that every one
    comes about equally often; classes and images are drawn at random, none twice in a batch where that is possible.

    Args:
        groups: for each super-class, the images of each of its classes.
        groups_per_batch, classes_per_group, images_per_class: how many of each.
    """

    groups: tuple[tuple[Indices, ...], ...]
    groups_per_batch: int
    classes_per_group: int
    images_per_class: int

    @property
    def batch_size(self) -> int:
        """Images per batch."""
        return self.groups_per_batch * self.classes_per_group * self.images_per_class

    @cached_property
    def _total(self) -> int:
        return sum(len(member) for group in self.groups for member in group)

    def __len__(self) -> int:
        return max(1, self._total // self.batch_size)

    def batches(self, rng: np.random.Generator, /) -> Iterator[Indices]:
        """Yield the batches of one epoch, class after class and super-class after super-class within a batch."""
        turns: list[int] = []
        for _ in range(len(self)):
            while len(turns) < self.groups_per_batch:
                later = [g for g in rng.permutation(len(self.groups)).tolist() if g not in turns]
                turns += later
            batch, turns = turns[: self.groups_per_batch], turns[self.groups_per_batch :]
            yield np.concatenate([self._draw(rng, member) for g in batch for member in self._classes(rng, g)])

    def _classes(self, rng: np.random.Generator, group: int) -> list[Indices]:
        chosen = rng.permutation(len(self.groups[group]))[: self.classes_per_group]
        return [self.groups[group][c] for c in chosen]

    def _draw(self, rng: np.random.Generator, member: Indices) -> Indices:
        return np.resize(rng.permutation(member), self.images_per_class)

    @property
    def coverage(self) -> str:
        """How many images an epoch draws, in words."""
        drawn = len(self) * self.batch_size
        return f"an epoch draws {drawn} images out of {self._total}, {len(self.groups)} super-classes in turn"


@SAMPLERS.register("hierarchical")
def hierarchical(
    labels: Labels,
    groups: Labels | None,
    /,
    *,
    groups_per_batch: Count = 4,
    classes_per_group: Count = 4,
    images_per_class: Count = 4,
) -> Sampler:
    """Fill each batch with some super-classes, classes of each, and images of each class: negatives that look alike.

    An epoch draws about as many images as there are. A class with fewer images repeats them. Super-classes with fewer
    than ``classes_per_group`` classes are left out, and counted.

    Raises:
        DataError: if there is no image.
        OptionError: if the data set has no super-classes, or too few of them are large enough.
    """
    check_some(labels)
    if groups is None:
        raise OptionError([Problem(("name",), "'hierarchical' needs super-classes, and this data set has none")])
    kinds = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    split = [tuple(rows[member] for member in members_of(labels[rows])) for rows in kinds]
    large = tuple(group for group in split if len(group) >= classes_per_group)
    if len(large) < groups_per_batch:
        message = f"must be at most the number of super-classes with {classes_per_group} classes, {len(large)}"
        raise OptionError([Problem(("groups_per_batch",), f"{message}, not {groups_per_batch}")])
    return GroupBatches(large, groups_per_batch, classes_per_group, images_per_class)
