"""Class-disjoint cross-validation inside the training classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from dml_bench.data.dataset import ImageSet, Split
from dml_bench.errors import DataError
from dml_bench.randomness import derive_seed


def folds(train: ImageSet, k: int, seed: int = 0, name: str = "fold") -> Iterator[Split]:
    """Yield ``k`` splits of a training set, each validated on its own share of the classes; no test class is touched.

    Args:
        train: the training set.
        k: how many folds; each holds ``C / k`` classes, rounded up or down.
        seed: which classes fall into which fold.
        name: of the splits, before ``-1of4`` and so on.

    Raises:
        DataError: if a fold would have fewer than 2 classes to train or to validate on.

    Source:
        Musgrave, Belongie, Lim, "A Metric Learning Reality Check", ECCV 2020, which takes 4.
    """
    classes = train.num_classes
    if k < 2 or classes // k < 2:
        raise DataError(f"{k} folds of {classes} classes: there must be 2 folds or more, of 2 classes or more each")
    order = np.random.default_rng(derive_seed(seed, "folds")).permutation(classes)
    for number in range(k):
        held_out = np.isin(train.labels, order[number::k])
        learned, validated = (train.select(np.flatnonzero(chosen)) for chosen in (~held_out, held_out))
        yield Split(f"{name}-{number + 1}of{k}", learned, validated, variant=("validation",))


def hold_out(split: Split, k: int, number: int) -> Split:
    """Return a split whose training part lacks fold ``number`` (from 1) of ``k``, which is there to validate on.

    The folds are the same whatever is trained, and the digest stays that of the whole: which classes are held out
    does not make the test another.

    Raises:
        DataError: if there are too few classes.
    """
    chosen = list(folds(split.train, k))[number - 1]
    return replace(split, train=chosen.train, validation=chosen.test, known_digest=split.digest)
