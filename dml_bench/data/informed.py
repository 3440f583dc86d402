"""Samplers that learn from training: from the embeddings when an epoch begins, or from how each step went."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int

from dml_bench.data.dataset import Labels
from dml_bench.data.samplers import SAMPLERS, Indices, Sampler, check_some, coverage, members_of
from dml_bench.epoch import EpochContext
from dml_bench.errors import OptionError, Problem
from dml_bench.registry import Count, Finite, Fraction, Positive
from dml_bench.search.classes import class_means, nearest_classes


@runtime_checkable
class LearnsFromEpochs(Protocol):
    """A sampler that looks at the training set when an epoch begins."""

    def on_epoch_start(self, context: EpochContext) -> None:
        """Hear that an epoch begins, before its first batch is drawn."""


@runtime_checkable
class LearnsFromSteps(Protocol):
    """A sampler that hears how each step went; the loss has to have centers."""

    def update(
        self, indices: Int[np.ndarray, " B"], correct: Bool[np.ndarray, " B"], score: Float[np.ndarray, " B"]
    ) -> None:
        """Hear which images were classified correctly, and their largest cosine to a center of their class."""


@dataclass(frozen=True)
class Factors:
    """How an image's weight changes each time it is drawn; see ``adaptive``."""

    correct: float
    wrong: float
    floor: float
    ceiling: float
    noise_threshold: float
    noise: float


class AdaptiveBatches:
    """Batches of different images, drawn by weights that follow what the network gets right.

    Attributes:
        weights: ``(n,)`` float64, in [floor, ceiling]; all 1 at first.
    """

    def __init__(self, images: int, batch_size: int, factors: Factors) -> None:
        self.batch_size, self.factors = min(batch_size, images), factors
        self.weights = np.ones(images)

    def __len__(self) -> int:
        return len(self.weights) // self.batch_size

    def batches(self, rng: np.random.Generator, /) -> Iterator[Indices]:
        """Yield the batches of one epoch, each drawn by the weights of its moment.

        A batch takes as many random numbers whatever the weights are, so an epoch that was cut short goes on where it
        stopped with the weights loaded and the batches that were done left out:
        ``islice(sampler.batches(rng), done, None)`` with the ``rng`` the epoch began with.
        """
        for _ in range(len(self)):
            # The largest of log(u) / w are a weighted draw without replacement (Efraimidis and Spirakis, 2006).
            keys = np.log(1 - rng.random(len(self.weights))) / self.weights
            yield np.argpartition(-keys, self.batch_size - 1)[: self.batch_size]

    def update(
        self, indices: Int[np.ndarray, " B"], correct: Bool[np.ndarray, " B"], score: Float[np.ndarray, " B"]
    ) -> None:
        """Lower the weights of images that were right, raise those that were wrong, cut those that look mislabelled."""
        f = self.factors
        factor = np.where(correct, f.correct, f.wrong)
        factor = np.where(score < f.noise_threshold, f.noise, factor)
        self.weights[indices] = (self.weights[indices] * factor).clip(f.floor, f.ceiling)

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be saved with a training run."""
        return {"weights": torch.tensor(self.weights)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` returned."""
        self.weights = state["weights"].numpy().copy()

    @property
    def coverage(self) -> str:
        """How many images an epoch draws, in words."""
        return f"an epoch draws {len(self) * self.batch_size} images out of {len(self.weights)}, hard ones more often"


@SAMPLERS.register("adaptive")
def adaptive(
    labels: Labels,
    /,
    *,
    batch_size: Count = 64,
    correct_factor: Fraction = 0.8,
    wrong_factor: Positive = 1.25,
    floor: Fraction = 0.05,
    ceiling: Positive = 10.0,
    noise_threshold: Finite = -0.5,
    noise_factor: Fraction = 0.1,
) -> Sampler:
    """Draw images that the loss's centers classify wrongly more often than those they classify correctly.

    Every image starts with weight 1. After each step the weight of an image in the batch is multiplied by
    correct_factor or wrong_factor, or by noise_factor where its cosine to the center of its own class is below
    noise_threshold, which looks like a wrong label; it stays in [floor, ceiling]. A batch holds different images.

    Source: Liu et al., AdaptiveFace, CVPR 2019 (adaptive data sampling).
    Interpretation: factors, threshold and bounds are ours; the descriptions found give none.

    Raises:
        DataError: if there is no image.
        OptionError: if wrong_factor or ceiling is below 1.
    """
    check_some(labels)
    given = {"wrong_factor": wrong_factor, "ceiling": ceiling}
    low = [Problem((name,), f"must be >= 1, not {value}") for name, value in given.items() if value < 1]
    if low:
        raise OptionError(low)
    factors = Factors(correct_factor, wrong_factor, floor, ceiling, noise_threshold, noise_factor)
    return AdaptiveBatches(len(labels), batch_size, factors)


class NeighborBatches:
    """Groups of similar classes in every batch, and the same number of images of each class.

    Attributes:
        nearest: ``(C, k)`` classes most similar to each, nearest first; None before the first epoch.
    """

    def __init__(self, labels: Labels, anchors: int, classes_per_anchor: int, images_per_class: int) -> None:
        self.members, self.total = members_of(labels), len(labels)
        self.anchors, self.classes_per_anchor, self.images_per_class = anchors, classes_per_anchor, images_per_class
        self.nearest: Indices | None = None

    @property
    def batch_size(self) -> int:
        """How many images a batch has."""
        return self.anchors * self.classes_per_anchor * self.images_per_class

    def __len__(self) -> int:
        return max(1, self.total // self.batch_size)

    def on_epoch_start(self, context: EpochContext) -> None:
        """Find the nearest classes in the current embeddings."""
        _, ranks = torch.unique(context.labels, return_inverse=True)
        means, _ = class_means(F.normalize(context.embed().double(), dim=1), ranks, len(self.members))
        self.nearest = nearest_classes(means, self.anchors * self.classes_per_anchor - 1).cpu().numpy()

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be saved with a training run."""
        return {"nearest": None if self.nearest is None else torch.tensor(self.nearest)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` returned."""
        self.nearest = None if state["nearest"] is None else state["nearest"].numpy().copy()

    def batches(self, rng: np.random.Generator, /) -> Iterator[Indices]:
        """Yield the batches of one epoch, class after class within a batch."""
        for _ in range(len(self)):
            yield np.concatenate([self._draw(rng, self.members[c]) for c in self._classes(rng)])

    def _classes(self, rng: np.random.Generator) -> list[int]:
        if self.nearest is None:
            raise RuntimeError("on_epoch_start has to be called before batches are drawn")
        chosen: list[int] = []
        for anchor in rng.permutation(len(self.members)):
            if len(chosen) == self.anchors * self.classes_per_anchor:
                break
            if anchor not in chosen:
                free = [c for c in self.nearest[anchor].tolist() if c not in chosen]
                chosen += [int(anchor), *free[: self.classes_per_anchor - 1]]
        return chosen

    def _draw(self, rng: np.random.Generator, member: Indices) -> Indices:
        return np.resize(rng.permutation(member), self.images_per_class)

    @property
    def coverage(self) -> str:
        """How many images an epoch draws and how many it leaves out, in words."""
        return coverage(min(self.total, len(self) * self.batch_size), self.total)


@SAMPLERS.register("class_neighbors")
def class_neighbors(
    labels: Labels, /, *, anchors: Count = 4, classes_per_anchor: Count = 4, images_per_class: Count = 4
) -> Sampler:
    """Fill each batch with random classes, the classes most similar to each of them, and some images of each.

    Similar are classes whose unit embeddings have a small mean squared distance when the epoch begins. A class that an
    earlier anchor brought is not taken again: the next nearest is. A class of too few images repeats them.

    Source: Ge et al., Deep Metric Learning with Hierarchical Triplet Loss, ECCV 2018 (anchor neighbours).

    Raises:
        DataError: if there is no image.
        OptionError: if there are fewer classes than a batch needs.
    """
    check_some(labels)
    classes = len(np.unique(labels))
    if anchors * classes_per_anchor > classes:
        message = f"anchors x classes_per_anchor must be at most the number of training classes, {classes}"
        raise OptionError([Problem(("anchors",), f"{message}, not {anchors} x {classes_per_anchor}")])
    return NeighborBatches(labels, anchors, classes_per_anchor, images_per_class)
