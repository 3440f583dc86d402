"""The metrics: one registry entry each, whose docstring is its definition.

A metric is read off one of two things that ``evaluate`` computes once: each query's ranked hits, or a clustering.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from dml_bench.errors import OptionError, Problem
from dml_bench.registry import Count, Registry, suggestion

Hits = Bool[np.ndarray, "Q K"]
PerQuery = Float64[np.ndarray, " Q"]
Counts = Int64[np.ndarray, " Q"]
Labels = Int64[np.ndarray, " N"]


@dataclass(frozen=True)
class RankMetric:
    """The mean over queries of a value read off the ranked list.

    Args:
        name: as users write it, such as ``recall@1``.
        depth: how deep lists must be ranked, given the largest number of relevant items that a query has.
        per_query: maps hits ``(Q, K)``, nearest first, and the numbers of relevant items ``(Q,)`` to values in [0, 1].
    """

    name: str
    depth: Callable[[int], int]
    per_query: Callable[[Hits, Counts], PerQuery]


@dataclass(frozen=True)
class ClusterMetric:
    """A value in [0, 1] that compares classes ``(N,)`` with clusters ``(N,)``, as many clusters as classes."""

    name: str
    score: Callable[[Labels, Labels], float]


Metric = RankMetric | ClusterMetric

METRICS: Registry[Metric] = Registry("metrics")
"""Factories ``(*, ...) -> Metric``; a name ending in ``@k`` has the option ``k`` and is written with a number."""


def parse_metric(name: str) -> Metric:
    """Return the metric that users call ``name``; ``recall@10`` is the entry ``recall@k`` with k = 10.

    Raises:
        OptionError: for an unknown name, with the closest known one.
    """
    number = re.search(r"(?<=@)[1-9][0-9]{0,8}\Z", name)
    entry = f"{name[: number.start()]}k" if number else name
    if number and entry in METRICS:
        return METRICS.build(entry, k=int(number[0]))
    if entry in METRICS and not entry.endswith("@k"):
        return METRICS.build(entry)
    known = [e.name for e in METRICS]
    hint = suggestion(entry, known)
    if number or entry in known:
        hint = hint.replace("@k'", f"@{number[0] if number else 1}'")
    raise OptionError([Problem((), f"no metric named '{name}'{hint}; known: {', '.join(known)} (k = 1, 2, ...)")])


def first_hit_rank(hits: Hits) -> PerQuery:
    """Return the rank of each query's nearest relevant item, counted from 1; infinity if no hit is in the list."""
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1.0, np.inf)


def found_within(hits: Hits, k: int) -> PerQuery:
    """Return 1 for each query with a hit among its first ``k``, else 0."""
    found: PerQuery = np.any(hits[:, :k], axis=1).astype(np.float64)
    return found


def average_precision_at_r(hits: Hits, relevant: Counts) -> PerQuery:
    """Return (1/R) sum_{i<=R} P(i) rel(i), where P(i) is the share of hits in the first i.

    Args:
        hits: lists that reach rank R at least.
        relevant: R, at least 1.
    """
    ranks = np.arange(1, hits.shape[1] + 1)
    counted = hits & (ranks <= relevant[:, None])
    values: PerQuery = (np.cumsum(hits, axis=1) / ranks * counted).sum(axis=1) / relevant
    return values


def precision_at_r(hits: Hits, relevant: Counts) -> PerQuery:
    """Return the share of hits in the first R.

    Args:
        hits: lists that reach rank R at least.
        relevant: R, at least 1.
    """
    ranks = np.arange(1, hits.shape[1] + 1)
    values: PerQuery = (hits & (ranks <= relevant[:, None])).sum(axis=1) / relevant
    return values


def normalized_mutual_information(labels: Labels, clusters: Labels) -> float:
    """Return 2 I(labels; clusters) / (H(labels) + H(clusters)); 1 if both are a single group."""
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(labels, clusters, average_method="arithmetic"))


@METRICS.register("recall@k")
def recall_at_k(*, k: Count) -> Metric:
    """Share of queries with at least one item of their class among the k nearest others.

    The query itself is left out by its index. At equal similarity (within float64 rounding) an item of another class
    ranks before one of the query's class. Items whose class has no second item are no queries but stay in the gallery.
    Where the gallery has fewer than k others, all of them count as nearest.

    Source: Jegou, Douze and Schmid, "Product quantization for nearest neighbor search", TPAMI 2011, section V-B; for
    metric learning Song et al., "Deep metric learning via lifted structured feature embedding", CVPR 2016, section 5.
    """
    return RankMetric(f"recall@{k}", lambda largest: k, lambda hits, relevant: found_within(hits, k))


@METRICS.register("map@r")
def map_at_r() -> Metric:
    """Mean over queries of (1/R) sum_{i<=R} P(i) rel(i), R being the number of other items of the query's class.

    P(i) is the share of the query's class among its i nearest; rel(i) is 1 if the i-th is of the class. Ties and
    queries as for recall@k.

    Source: Musgrave, Belongie and Lim, "A metric learning reality check", ECCV 2020, section 2.2.
    """
    return RankMetric("map@r", lambda largest: largest, average_precision_at_r)


@METRICS.register("r_precision")
def r_precision() -> Metric:
    """Mean over queries of the share of the query's class among its R nearest, R as for map@r.

    Source: Musgrave, Belongie and Lim, "A metric learning reality check", ECCV 2020, section 2.2.
    """
    return RankMetric("r_precision", lambda largest: largest, precision_at_r)


@METRICS.register("nmi")
def nmi() -> Metric:
    """Normalised mutual information between classes and the k-means clusters of all items, 2 I / (H + H).

    As many clusters as classes, Euclidean k-means on the L2-normalised embeddings. The mean over ``restarts`` seeded
    restarts; ``nmi_restart_std`` beside it is their sample standard deviation (n - 1; NaN for one restart).

    Differs: scikit-learn before 0.22 normalised by the geometric mean of the entropies unless told otherwise, so old
    published numbers can be higher in the decimals.
    """
    return ClusterMetric("nmi", normalized_mutual_information)
