"""Metrics of verification: are two items of the same class? They are, if their similarity is at least a threshold.

The false accept rate (FAR) is the share of pairs of different classes that are accepted, the true accept rate (TAR)
that of pairs of the same class. Pairs are those of a list, or every query with every item of the gallery but itself.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from dml_bench.errors import DataError
from dml_bench.evaluation.metrics import METRICS, Metric, PairMetric
from dml_bench.registry import Fraction

if TYPE_CHECKING:
    from dml_bench.evaluation.pairs import PairScores


def best_threshold(pairs: PairScores) -> float:
    """Return the threshold that is right about most pairs: midway between similarities, or infinite at the ends.

    Of thresholds that are equally good it is the highest.
    """
    values = pairs.similarities
    middle = values[:-1] / 2 + values[1:] / 2
    middle = np.where((middle > values[:-1]) & (middle <= values[1:]), middle, values[1:])  # no number lies between
    thresholds = np.concatenate([[-np.inf], middle, [np.inf]])
    right = pairs.same.sum() + np.concatenate([[0], np.cumsum(pairs.different - pairs.same)])
    return float(thresholds[np.flatnonzero(right == right.max())[-1]])


def accuracy(pairs: PairScores, threshold: float) -> float:
    """Return the share of pairs that the threshold is right about."""
    accepted = pairs.similarities >= threshold
    right = pairs.same[accepted].sum() + pairs.different[~accepted].sum()
    return float(right / (pairs.same.sum() + pairs.different.sum()))


def fold_accuracies(pairs: PairScores) -> Float64[np.ndarray, " F"]:
    """Return the accuracy on each fold, with the threshold that is best on all others.

    Raises:
        DataError: if the pairs have fewer than two folds.
    """
    if len(pairs.folds) < 2:
        raise DataError(
            f"pair_accuracy takes the threshold of each fold from the others, and needs a list of pairs in at least "
            f"two folds; these have {len(pairs.folds) or 'none'}. roc_auc, eer and tar@far need no folds"
        )
    return np.array([accuracy(fold, best_threshold(pairs.without(fold))) for fold in pairs.folds])


def tar_at(pairs: PairScores, far: float) -> float:
    """Return the highest true accept rate at a false accept rate of at most ``far``.

    Raises:
        DataError: if ``far`` is less than one pair of all those of different classes.
    """
    false, true = pairs.rates()
    number = int(pairs.different.sum())
    if far < 1 / number:
        raise DataError(
            f"a false accept rate of {far:g} needs {ceil(1 / far):,} pairs of different classes; got {number:,}"
        )
    return float(true[np.searchsorted(false, far, side="right") - 1])


def equal_error_rate(pairs: PairScores) -> float:
    """Return the rate at which as large a share of different pairs is accepted as of same pairs is rejected."""
    false, true = pairs.rates()
    excess = false - (1 - true)  # rises from -1 to 1
    after = int(np.argmax(excess >= 0))
    part = -excess[after - 1] / (excess[after] - excess[after - 1])
    return float(false[after - 1] + part * (false[after] - false[after - 1]))


def area_under_curve(pairs: PairScores) -> float:
    """Return the area under the curve of true over false accept rates, straight between thresholds."""
    false, true = pairs.rates()
    return float(np.sum(np.diff(false) * (true[1:] + true[:-1])) / 2)


@METRICS.register("pair_accuracy")
def pair_accuracy() -> Metric:
    """Mean over folds of the share of pairs told right, with the threshold that is best on all other folds.

    That is the protocol of Labeled Faces in the Wild with its ten folds of 300 same and 300 different pairs. Needs a
    list of pairs that says which fold each belongs to: other folds than those of the protocol give another number. A
    pair is accepted if its similarity is at least the threshold. Thresholds lie midway between neighbouring
    similarities; of equally good ones the highest is taken.

    Source: Huang, Ramesh, Berg and Learned-Miller, "Labeled faces in the wild", UMass technical report 07-49, 2007,
    image-restricted training, view 2.

    Differs: much code tries thresholds on a fixed grid, such as 400 steps of the distance, and misses the best ones.
    """
    return PairMetric("pair_accuracy", score=lambda pairs: float(fold_accuracies(pairs).mean()))


@METRICS.register("tar@far")
def tar_at_far(*, far: Fraction) -> Metric:
    """True accept rate at the lowest threshold whose false accept rate is at most far; ``tar@1e-3`` has far = 0.001.

    A pair is accepted if its similarity is at least the threshold, so that pairs of equal similarity are accepted
    together; nothing is interpolated. At least 1 / far pairs of different classes are needed: fewer cannot tell such a
    rate from none.

    Source: Klare et al., "Pushing the frontiers of unconstrained face detection and recognition: IARPA Janus benchmark
    A", CVPR 2015.
    """
    short = f"{far:g}" if far >= 0.01 else np.format_float_scientific(far, trim="-", exp_digits=1)
    return PairMetric(f"tar@{short}", score=lambda pairs: tar_at(pairs, far))


@METRICS.register("eer")
def eer() -> Metric:
    """Equal error rate: where as large a share of different pairs is accepted as of same pairs is rejected.

    Where no threshold makes both equal, the line between the two thresholds around is followed to where they are.

    Source: ISO/IEC 19795-1, "Biometric performance testing and reporting", 2006.
    """
    return PairMetric("eer", "lower", score=equal_error_rate)


@METRICS.register("roc_auc")
def roc_auc() -> Metric:
    """Probability that a pair of the same class is more similar than one of different classes, ties counting half.

    That is the area under the curve of true over false accept rates.

    Source: Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 2006, section 7.
    """
    return PairMetric("roc_auc", score=area_under_curve)
