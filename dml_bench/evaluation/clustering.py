"""Metrics of clustering: how well the classes agree with the k-means clusters of all items, numbers aside.

As many clusters as classes, Euclidean k-means on the L2-normalised embeddings. A metric is the mean over seeded
restarts; ``restart_std`` beside it is their sample standard deviation (n - 1; NaN for one restart).

Notation: N items; n_ij of them in class i and cluster j; a_i in class i, b_j in cluster j. H is the entropy of the
class or cluster of an item drawn at random, I the mutual information of both, natural logarithms throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float64, Int64

from dml_bench.evaluation.metrics import METRICS, ClusterMetric, Labels, Metric

Average = Literal["arithmetic", "geometric", "min", "max"]
Sizes = Int64[np.ndarray, "_"]

_AVERAGES: dict[Average, Any] = {
    "arithmetic": lambda a, b: (a + b) / 2,
    "geometric": lambda a, b: (a * b) ** 0.5,
    "min": min,
    "max": max,
}


@dataclass(frozen=True, eq=False)
class Contingency:
    """How many items each class shares with each cluster, where they share any.

    Args:
        shared: ``(P,)`` n_ij > 0.
        row: ``(P,)`` i.
        column: ``(P,)`` j.
        classes: ``(I,)`` a_i.
        clusters: ``(J,)`` b_j.
    """

    shared: Int64[np.ndarray, " P"]
    row: Int64[np.ndarray, " P"]
    column: Int64[np.ndarray, " P"]
    classes: Sizes
    clusters: Sizes

    @property
    def total(self) -> int:
        """N."""
        return int(self.classes.sum())

    @property
    def same(self) -> bool:
        """Whether classes and clusters are the same partition."""
        return len(self.shared) == len(self.classes) == len(self.clusters)


def contingency(labels: Labels, clusters: Labels) -> Contingency:
    """Count which classes meet which clusters; any integers will do for either."""
    _, rows, classes = np.unique(labels, return_inverse=True, return_counts=True)
    _, columns, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    width = max(len(sizes), 1)
    codes, shared = np.unique(rows.astype(np.int64) * width + columns, return_counts=True)
    return Contingency(shared, codes // width, codes % width, classes, sizes)


def entropy(sizes: Sizes) -> float:
    """Return H in nats."""
    total = sizes.sum()
    return float((sizes / total * np.log(total / sizes)).sum())


def mutual_information(table: Contingency) -> float:
    """Return I = sum_ij n_ij / N log(N n_ij / (a_i b_j)) in nats."""
    expected = table.classes[table.row].astype(np.float64) * table.clusters[table.column]
    return max(float((table.shared / table.total * np.log(table.total * table.shared / expected)).sum()), 0.0)


def expected_mutual_information(classes: Sizes, clusters: Sizes) -> float:
    """Return the mean of I over all ways to deal the items to classes and clusters of these sizes, in nats.

    E = sum over i, j, n of n / N log(N n / (a_i b_j)) P(n), P the hypergeometric distribution of n_ij. It depends on
    the sizes alone, of which few are different: O(N sqrt(N)) at most, and far less as a rule.

    Source: Vinh, Epps and Bailey, "Information theoretic measures for clusterings comparison", JMLR 11, 2010, eq. 24a.
    """
    from scipy.special import gammaln

    total = int(classes.sum())
    factorial = gammaln(np.arange(total + 2) + 0.0)[1:]  # log n!
    sizes, times = np.unique(clusters, return_counts=True)
    result = 0.0
    for a, often in zip(*np.unique(classes, return_counts=True), strict=True):
        low, high = np.maximum(1, a + sizes - total), np.minimum(a, sizes)
        counts = high - low + 1
        b, weight = np.repeat(sizes, counts), np.repeat(times, counts)
        n = np.arange(len(b)) - np.repeat(counts.cumsum() - counts - low, counts)
        chance = (
            _log_choose(factorial, b, n) + _log_choose(factorial, total - b, a - n) - _log_choose(factorial, total, a)
        )
        terms = n / total * np.log(total * n / (float(a) * b)) * np.exp(chance)
        result += float(often * (weight * terms).sum())
    return result


def _log_choose(factorial: Float64[np.ndarray, " F"], n: Any, k: Any) -> npt.NDArray[np.float64]:
    return np.asarray(factorial[n] - factorial[k] - factorial[n - k])


def normalized_mutual_information(labels: Labels, clusters: Labels, average_method: Average = "arithmetic") -> float:
    """Return I / mean(H, H): 1 for equal partitions, else 0 where either is a single group."""
    table = contingency(labels, clusters)
    if table.same:
        return 1.0
    information = mutual_information(table)
    mean = float(_AVERAGES[average_method](entropy(table.classes), entropy(table.clusters)))
    return information and information / mean


def adjusted_mutual_information(labels: Labels, clusters: Labels, average_method: Average = "arithmetic") -> float:
    """Return (I - E) / (mean(H, H) - E): 1 for equal partitions, else 0 where I is E however items are dealt.

    That is where either partition is a single group or has no two items in a group.
    """
    table = contingency(labels, clusters)
    if table.same:
        return 1.0
    if any(len(sizes) in (1, table.total) for sizes in (table.classes, table.clusters)):
        return 0.0
    expected = expected_mutual_information(table.classes, table.clusters)
    mean = float(_AVERAGES[average_method](entropy(table.classes), entropy(table.clusters)))
    return (mutual_information(table) - expected) / (mean - expected)


def _pairs(sizes: Sizes) -> int:
    """Return how many pairs of items lie within groups of these sizes."""
    return int((sizes.astype(np.int64) * (sizes - 1)).sum()) // 2


def adjusted_rand_index(labels: Labels, clusters: Labels) -> float:
    """Return (pairs - expected) / (largest - expected): 1 for equal partitions."""
    table = contingency(labels, clusters)
    if table.same:
        return 1.0
    both, classes, sizes = _pairs(table.shared), _pairs(table.classes), _pairs(table.clusters)
    everything = table.total * (table.total - 1) // 2
    # All times `everything`, so that the differences are of whole numbers and exact.
    return (both * everything - classes * sizes) / ((classes + sizes) * everything / 2 - classes * sizes)


def pairwise_f_score(labels: Labels, clusters: Labels) -> float:
    """Return 2 * pairs in both / (pairs in a class + pairs in a cluster): 1 where no two items share either."""
    table = contingency(labels, clusters)
    pairs = _pairs(table.classes) + _pairs(table.clusters)
    return 2 * _pairs(table.shared) / pairs if pairs else 1.0


def _named(name: str, average_method: Average) -> str:
    return name if average_method == "arithmetic" else f"{name}_{average_method}"


@METRICS.register("nmi")
def nmi(*, average_method: Average = "arithmetic") -> Metric:
    """Normalised mutual information between classes and k-means clusters, I / mean(H(classes), H(clusters)).

    In [0, 1]; 1 for equal partitions. With other means than the arithmetic one the metric is called nmi_geometric,
    nmi_min or nmi_max. Random clusters score far above 0 where classes are small: ``ami`` corrects that.

    Source: Strehl and Ghosh, "Cluster ensembles", JMLR 3, 2002 (geometric); Manning, Raghavan and Schuetze,
        "Introduction to Information Retrieval", 2008, section 16.3 (arithmetic).
    Differs: scikit-learn before 0.22 took the geometric mean of the entropies unless told otherwise, so old published
        numbers can be higher in the decimals.
    """
    score = partial(normalized_mutual_information, average_method=average_method)
    return ClusterMetric(_named("nmi", average_method), score=score)


@METRICS.register("ami")
def ami(*, average_method: Average = "arithmetic") -> Metric:
    """Mutual information between classes and k-means clusters, adjusted for chance: (I - E) / (mean(H, H) - E).

    E is the expected I of random clusters of the same sizes. 1 for equal partitions, 0 in expectation for random ones;
    can be below 0. With other means than the arithmetic one it is called ami_geometric, ami_min or ami_max.

    Source: Vinh, Epps and Bailey, "Information theoretic measures for clusterings comparison", JMLR 11, 2010.
    Differs: where either side has no two items together, I is E whatever the clusters, and the value is 0 (1 for equal
        partitions); scikit-learn divides what rounding leaves.
    """
    score = partial(adjusted_mutual_information, average_method=average_method)
    return ClusterMetric(_named("ami", average_method), score=score, share=False)


@METRICS.register("ari")
def ari() -> Metric:
    """Rand index between classes and k-means clusters, adjusted for chance: (S - E) / ((A + B) / 2 - E).

    Of all M pairs of items, A share the class, B the cluster, S both; E = A B / M is what chance gives S. 1 for equal
    partitions, 0 in expectation for random ones; can be below 0.

    Source: Hubert and Arabie, "Comparing partitions", Journal of Classification 2, 1985, eq. 5.
    """
    return ClusterMetric("ari", score=adjusted_rand_index, share=False)


@METRICS.register("pairwise_f1")
def pairwise_f1() -> Metric:
    """Harmonic mean of precision and recall of "same cluster" for "same class" over all pairs of items.

    Of the pairs that share a cluster, precision is the share that shares the class; of those that share the class,
    recall is the share that shares the cluster. 2 S / (A + B) in the notation of ``ari``; 1 where A = B = 0, since no
    pair is wrong, and 0 where only one of them is.

    Source: Manning, Raghavan and Schuetze, "Introduction to Information Retrieval", 2008, section 16.3.
    """
    return ClusterMetric("pairwise_f1", score=pairwise_f_score)
