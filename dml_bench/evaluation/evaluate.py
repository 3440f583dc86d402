"""Score embeddings by the conventions of retrieval and clustering."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from dml_bench.errors import DataError, OptionError, Problem
from dml_bench.evaluation.metrics import ClusterMetric, RankMetric, first_hit_rank, parse_metric
from dml_bench.evaluation.scores import Scores
from dml_bench.randomness import derive_seed
from dml_bench.recipe.schema import DEFAULT_METRICS
from dml_bench.search.clusters import restarts as kmeans_restarts
from dml_bench.search.neighbors import hits

__all__ = ["Scores", "evaluate"]


def evaluate(
    embeddings: npt.ArrayLike | Tensor,
    labels: npt.ArrayLike | Tensor,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    restarts: int = 1,
    seed: int = 0,
) -> Scores:
    """Score how well ``embeddings`` retrieve and cluster the classes given by ``labels``.

    Embeddings are L2-normalised and compared by cosine. ``dml-bench info metrics NAME`` defines each metric; only what
    the asked ones need is computed. Results do not depend on the thread count beyond float rounding in k-means.

    Args:
        embeddings: ``(N, D)`` real numbers: array, nested list, or tensor of any float type on any device.
        labels: ``(N,)`` integers, in any order and with any gaps.
        metrics: names such as ``recall@1``.
        restarts: k-means restarts that cluster metrics are averaged over; restart r is the same for every total.
        seed: seed of the restarts.

    Raises:
        OptionError: for an unknown metric, or restarts below 1.
        DataError: for embeddings or labels of the wrong shape or type, NaN, infinities and zero vectors, or if a
            ranking is asked for and no class has two items.

    >>> scores = evaluate([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]], [7, 7, 3, 3], ["recall@1", "nmi"])
    >>> scores["recall@1"], scores["nmi"]
    (1.0, 1.0)
    """
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    if not names:
        raise OptionError([Problem(("metrics",), "names no metric")])
    for name, value in (("restarts", restarts), ("seed", seed)):
        least = 1 if name == "restarts" else 0
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise OptionError([Problem((name,), f"must be a whole number, at least {least}, not {value!r}")])
    asked = [parse_metric(str(name)) for name in names]
    points = _unit_rows(_numbers(embeddings, "embeddings"))
    classes = _class_codes(_numbers(labels, "labels"), len(points))
    counts = np.bincount(classes)
    ranking = [metric for metric in asked if isinstance(metric, RankMetric)]
    clustering = [metric for metric in asked if isinstance(metric, ClusterMetric)]
    per_query = _rank(points, classes, counts, ranking) if ranking else {}
    clustered = _cluster(points, classes, clustering, [derive_seed(seed, "kmeans", r) for r in range(restarts)])
    found: dict[str, float] = {}
    for metric in asked:
        found |= clustered.get(metric.name) or {metric.name: float(per_query[metric.name].mean())}
    singletons = int((counts == 1).sum())
    return Scores(found, len(points) - singletons, singletons, per_query)


def _rank(
    points: Float64[np.ndarray, "N D"],
    classes: Int64[np.ndarray, " N"],
    counts: Int64[np.ndarray, " C"],
    metrics: Sequence[RankMetric],
) -> dict[str, npt.NDArray[Any]]:
    """Return each metric's value per query."""
    depth = max(metric.depth(int(counts.max()) - 1) for metric in metrics)
    blocks: list[dict[str, npt.NDArray[Any]]] = []
    for rows, found in hits(points, classes, max(depth, 1)):
        relevant = counts[classes[rows]] - 1
        values = {metric.name: metric.per_query(found, relevant) for metric in metrics}
        blocks.append({"query": rows, "first_hit_rank": first_hit_rank(found), **values})
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _cluster(
    points: Float64[np.ndarray, "N D"],
    classes: Int64[np.ndarray, " N"],
    metrics: Sequence[ClusterMetric],
    seeds: Sequence[int],
) -> dict[str, dict[str, float]]:
    """Return each metric's mean and standard deviation over the seeds."""
    if not metrics:
        return {}
    clusterings = list(kmeans_restarts(points, int(classes.max()) + 1, seeds))
    result: dict[str, dict[str, float]] = {}
    for metric in metrics:
        values = [metric.score(classes, clusters) for clusters in clusterings]
        mean, spread = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
        result[metric.name] = {metric.name: mean, f"{metric.name}_restart_std": spread}
    return result


def _numbers(values: npt.ArrayLike | Tensor, what: str) -> npt.NDArray[Any]:
    """Return an array of real numbers; float tensors become float64, since NumPy has no bfloat16."""
    try:
        if isinstance(values, Tensor):
            values = values.detach().cpu()
            values = (values.to(torch.float64) if values.is_floating_point() else values).numpy()
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{what}: not an array of numbers: {error}") from error
    if array.dtype.kind not in "fiu":
        raise DataError(f"{what}: must be real numbers, not {array.dtype}")
    return array


def _unit_rows(values: npt.NDArray[Any]) -> Float64[np.ndarray, "N D"]:
    """Check embeddings and return them with rows of length 1."""
    if values.ndim != 2 or not values.size:
        raise DataError(f"embeddings: must be (N, D) with at least one row and column, not {values.shape}")
    rows = values.astype(np.float64)
    _refuse_rows(np.logical_not(np.isfinite(rows).all(axis=1)), "hold NaN or infinity")
    largest = np.abs(rows).max(axis=1, keepdims=True)
    _refuse_rows(largest[:, 0] == 0, "are zero vectors, which have no direction")
    rows /= largest  # squares of very large or small numbers would overflow or vanish
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def _refuse_rows(bad: npt.NDArray[np.bool_], why: str) -> None:
    if bad.any():
        raise DataError(f"embeddings: {bad.sum()} of {len(bad)} rows {why}; the first is row {bad.argmax()}")


def _class_codes(labels: npt.NDArray[Any], items: int) -> Int64[np.ndarray, " N"]:
    """Check labels and number the classes 0, 1, ..."""
    if labels.dtype.kind not in "iu":
        raise DataError(f"labels: must be integers, not {labels.dtype}")
    if labels.shape != (items,):
        raise DataError(f"labels: must be ({items},), one per embedding, not {labels.shape}")
    codes: Int64[np.ndarray, " N"] = np.unique(labels, return_inverse=True)[1]
    return codes
