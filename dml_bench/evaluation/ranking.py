"""Metrics of retrieval, read off the ranks at which a query's relevant items are found.

A query's relevant items are the others of its class in the gallery, R in number; they are ranked from 1. At equal
similarity an item of another class ranks first. Queries without a relevant item are left out, and counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64

from dml_bench.evaluation.metrics import METRICS, Metric, PerQuery, RankMetric
from dml_bench.registry import Count

if TYPE_CHECKING:
    from dml_bench.search.ranks import Ranks

Rows = Int64[np.ndarray, " P"]


def within(ranks: Ranks, limit: int | Int64[np.ndarray, " Q"]) -> tuple[Rows, Rows, Rows]:
    """Return, for each relevant item ranked at most ``limit``: its query, its rank, how many rank no lower than it."""
    query = np.repeat(np.arange(len(ranks.relevant)), np.diff(ranks.starts))
    place = np.arange(len(ranks.ranks)) - ranks.starts[query] + 1
    kept = ranks.ranks <= (limit if isinstance(limit, int) else limit[query])
    return query[kept], ranks.ranks[kept], place[kept]


def total(ranks: Ranks, query: Rows, values: npt.NDArray[Any]) -> PerQuery:
    """Return the sum of ``values`` for each query."""
    sums: PerQuery = np.bincount(query, values, minlength=len(ranks.relevant)).astype(np.float64)
    return sums


def found_within(ranks: Ranks, k: int) -> PerQuery:
    """Return 1 for each query with a relevant item among its k nearest, else 0."""
    found: PerQuery = (ranks.first <= k).astype(np.float64)
    return found


def precision(ranks: Ranks, limit: int | Int64[np.ndarray, " Q"]) -> PerQuery:
    """Return the number of relevant items among the nearest, divided by how many nearest there are to be."""
    query, rank, _ = within(ranks, limit)
    return total(ranks, query, np.ones_like(rank)) / limit


def average_precision(ranks: Ranks, limit: int | Int64[np.ndarray, " Q"]) -> PerQuery:
    """Return sum_{i<=limit} P(i) rel(i) / min(limit, R)."""
    query, rank, place = within(ranks, limit)
    values: PerQuery = total(ranks, query, place / rank) / np.minimum(limit, ranks.relevant)
    return values


@METRICS.register("recall@k")
def recall_at_k(*, k: Count) -> Metric:
    """Share of queries with at least one relevant item among the k nearest.

    The query itself is left out by its index. At equal similarity (within float64 rounding) an item of another class
    ranks before one of the query's class. Queries whose class has no other item in the gallery are left out, but stay
    in the gallery. Where the gallery has fewer than k items, all of them count as nearest.

    Source: Jegou, Douze and Schmid, "Product quantization for nearest neighbor search", TPAMI 2011, section V-B; for
    metric learning Song et al., "Deep metric learning via lifted structured feature embedding", CVPR 2016, section 5.
    """
    return RankMetric(f"recall@{k}", per_query=lambda ranks: found_within(ranks, k), depth=None)


@METRICS.register("precision@k")
def precision_at_k(*, k: Count) -> Metric:
    """Mean over queries of the share of relevant items among the k nearest; queries and ties as for recall@k.

    It is divided by k even where a query has fewer relevant items, or the gallery fewer items.

    Source: Manning, Raghavan and Schuetze, "Introduction to information retrieval", 2008, section 8.4.
    """
    return RankMetric(f"precision@{k}", per_query=lambda ranks: precision(ranks, k), depth=lambda relevant: k)


@METRICS.register("map@r")
def map_at_r() -> Metric:
    """Mean over queries of (1/R) sum_{i<=R} P(i) rel(i), R being the number of a query's relevant items.

    P(i) is the share of relevant items among the i nearest; rel(i) is 1 if the i-th is relevant. Queries and ties as
    for recall@k.

    Source: Musgrave, Belongie and Lim, "A metric learning reality check", ECCV 2020, section 2.2.
    """
    return RankMetric(
        "map@r", per_query=lambda ranks: average_precision(ranks, ranks.relevant), depth=lambda relevant: relevant
    )


@METRICS.register("map@k")
def map_at_k(*, k: Count) -> Metric:
    """Mean over queries of the average precision of the k nearest: sum_{i<=k} P(i) rel(i) / min(k, R).

    P, rel, R, queries and ties as for map@r.

    Source: Manning, Raghavan and Schuetze, "Introduction to information retrieval", 2008, section 8.4, cut off at k.

    Differs: some divide by k, or by the number of relevant items found, so that a perfect list scores less than 1 or a
    short one more than it should.
    """
    return RankMetric(f"map@{k}", per_query=lambda ranks: average_precision(ranks, k), depth=lambda relevant: k)


@METRICS.register("r_precision")
def r_precision() -> Metric:
    """Mean over queries of the share of relevant items among the R nearest, R as for map@r.

    Source: Musgrave, Belongie and Lim, "A metric learning reality check", ECCV 2020, section 2.2.
    """
    return RankMetric(
        "r_precision", per_query=lambda ranks: precision(ranks, ranks.relevant), depth=lambda relevant: relevant
    )


@METRICS.register("mrr")
def mean_reciprocal_rank() -> Metric:
    """Mean over queries of 1 / rank of the nearest relevant item, however far down; queries and ties as for recall@k.

    Source: Voorhees, "The TREC-8 question answering track report", 1999.
    """
    return RankMetric("mrr", per_query=lambda ranks: 1.0 / ranks.first, depth=None)
