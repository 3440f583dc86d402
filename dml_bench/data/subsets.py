"""Harder versions of a training set: fewer images, unequal classes, wrong labels. The test set stays as it is.

A subset is part of a recipe and of its identity. It changes the content a network is trained on and with it the digest
of the data, so that its numbers stand in a table of their own. The draws have a seed of their own, the option ``seed``,
so that runs with other seeds see the same subset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from dml_bench.data.dataset import ImageSet, Split
from dml_bench.data.samplers import members_of
from dml_bench.errors import DataError, OptionError, Problem
from dml_bench.randomness import derive_seed
from dml_bench.registry import Count, Fraction, Probability, Registry

SUBSETS: Registry[ImageSet] = Registry("subsets")
"""Factories ``(train: ImageSet, /, *, ...) -> ImageSet``."""

Seed = Annotated[int, Field(ge=0)]
Factor = Annotated[float, Field(ge=1, allow_inf_nan=False)]


def with_subsets(split: Split, choices: Sequence[Mapping[str, Any]]) -> ImageSet:
    """Return the training part of ``split`` after each of ``choices``, one after the other."""
    train = split.train
    for choice in choices:
        train = SUBSETS.build(choice["name"], train, **{k: v for k, v in choice.items() if k != "name"})
    return train


@SUBSETS.register("long_tail")
def long_tail(train: ImageSet, /, *, factor: Factor, seed: Seed = 0) -> ImageSet:
    """Thin the classes out along an exponential: the first keeps all it has, the last a ``factor``-th.

    The classes are put in random order; number ``i`` of C keeps ``int(n_max * factor ** (-i / (C - 1)))`` images drawn
    at random, but at least 1 and at most what it has; ``n_max`` is the size of the largest class.

    Source: Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, section 5.1.
    Differs: the order of the classes is random, not that of their names; no class is left empty.
    """
    order = _generator(seed, "long_tail").permutation(train.num_classes)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    largest, last = int(train.class_counts.max()), max(1, len(order) - 1)
    wanted = [int(largest * factor ** (-i / last)) for i in place.tolist()]
    return _thinned(train, wanted, seed)


@SUBSETS.register("step_imbalance")
def step_imbalance(train: ImageSet, /, *, factor: Factor, share: Fraction = 0.5, seed: Seed = 0) -> ImageSet:
    """Thin a share of the classes, drawn at random, out to ``1 / factor`` of the largest; the others stay.

    A thinned class keeps ``int(n_max / factor)`` images, but at least 1; ``int(share * C)`` classes are thinned.

    Source: Buda, Maki, Mazurowski, A systematic study of the class imbalance problem, Neural Networks 2018.
    """
    order = _generator(seed, "step_imbalance").permutation(train.num_classes)
    wanted = train.class_counts.copy()
    count = int(share * len(order) + 1e-9)  # 0.29 * 100 is 28.999999999999996
    wanted[order[:count]] = int(int(train.class_counts.max()) / factor)
    return _thinned(train, wanted.tolist(), seed)


@SUBSETS.register("few_shot")
def few_shot(train: ImageSet, /, *, images_per_class: Count, seed: Seed = 0) -> ImageSet:
    """Keep so many images of each class, drawn at random; a class with fewer keeps them all."""
    return _thinned(train, [images_per_class] * train.num_classes, seed)


@SUBSETS.register("class_fraction")
def class_fraction(train: ImageSet, /, *, fraction: Fraction, seed: Seed = 0) -> ImageSet:
    """Keep all images of a share of the classes, drawn at random: ``round(fraction * C)`` of them, but at least 2."""
    count = min(train.num_classes, max(2, round(fraction * train.num_classes)))
    chosen = _generator(seed, "class_fraction").permutation(train.num_classes)[:count]
    return train.select(np.flatnonzero(np.isin(train.labels, chosen)).astype(np.int64))


@SUBSETS.register("label_noise")
def label_noise(train: ImageSet, /, *, rate: Probability, seed: Seed = 0) -> ImageSet:
    """Give ``round(rate * N)`` images, drawn at random, the label of another class, each equally likely.

    Source: symmetric noise, as in Patrini et al., Making Deep Neural Networks Robust to Label Noise, CVPR 2017.
    Differs: exactly so many labels are wrong; the last image of a class keeps its own.

    Raises:
        DataError: if there is one class only.
        OptionError: if so many labels cannot be wrong.
    """
    if train.num_classes < 2:
        raise DataError("label noise needs at least 2 classes")
    most = len(train) - train.num_classes
    if round(rate * len(train)) > most:
        message = f"must be at most {most / len(train):.4g}, as every class keeps an image of its own, not {rate:g}"
        raise OptionError([Problem(("rate",), message)])
    rng = _generator(seed, "label_noise")
    labels, left = train.labels.copy(), train.class_counts.copy()
    wanted = round(rate * len(train))
    for row in rng.permutation(len(train)).tolist():
        if wanted == 0:
            break
        if left[train.labels[row]] > 1:
            left[train.labels[row]] -= 1
            labels[row] = (train.labels[row] + rng.integers(1, train.num_classes)) % train.num_classes
            wanted -= 1
    return train.select(np.arange(len(train)), labels)


def _thinned(train: ImageSet, wanted: Sequence[int], seed: int) -> ImageSet:
    """Keep so many images of each class, at least one; drawn by a generator for each class, in their old order."""
    kept = []
    for label, (member, count) in enumerate(zip(members_of(train.labels), wanted, strict=True)):
        drawn = _generator(seed, "images", label).permutation(member)[: max(1, count)]
        kept.append(drawn)
    return train.select(np.sort(np.concatenate(kept)))


def _generator(seed: int, *uses: str | int) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, "subset", *uses))
