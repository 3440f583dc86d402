"""Score embeddings by the conventions of retrieval, clustering, verification and classification."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dml_bench.errors import DataError, OptionError, Problem
from dml_bench.evaluation.centers import nearest_centers
from dml_bench.evaluation.items import Distance, Items, Mask, PairList, arrange
from dml_bench.evaluation.metrics import (
    CenterMetric,
    ClusterMetric,
    GeometryMetric,
    Metric,
    PairMetric,
    RankMetric,
    parse_metric,
)
from dml_bench.evaluation.pairing import all_pairs, listed_pairs
from dml_bench.evaluation.scores import SPREAD, Scores, class_means
from dml_bench.randomness import derive_seed
from dml_bench.recipe.schema import DEFAULT_METRICS
from dml_bench.search.clusters import restarts as clusterings
from dml_bench.search.neighbors import Engine
from dml_bench.search.points import Points
from dml_bench.search.ranks import rank

__all__ = ["Scores", "evaluate"]

LEAST_MEMORY = 64 * 2**20
UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}

Tell = Callable[[str, int, int], None]
"""Hears what is being done, how much of it is done, and how much there is."""
Found = dict[str, float]
PerQuery = dict[str, npt.NDArray[Any]]
M = TypeVar("M", bound=Metric)


def evaluate(
    embeddings: npt.ArrayLike | Tensor,
    labels: npt.ArrayLike | Tensor,
    metrics: str | Sequence[str] = DEFAULT_METRICS,
    *,
    query: Mask | None = None,
    gallery: Mask | tuple[npt.ArrayLike | Tensor, npt.ArrayLike | Tensor] | None = None,
    pairs: PairList | None = None,
    distance: Distance = "cosine",
    restarts: int = 1,
    seed: int = 0,
    memory: str | int = "1GB",
    engine: Engine = "auto",
    precision: Literal["float32", "float64"] = "float32",
    device: str | torch.device = "cpu",
    tell: Tell = lambda what, done, total: None,
) -> Scores:
    """Score how well ``embeddings`` retrieve and cluster the classes given by ``labels``.

    Every item is a query for all others, unless masks or a gallery of its own say who asks and what is searched; a
    query never finds itself. ``dml-bench info metrics NAME`` defines each metric; only what the asked ones need is
    computed. Ranks are exact: they do not depend on memory, engine, precision, device or threads. K-means does so
    within float rounding.

    Args:
        embeddings: ``(N, D)`` real numbers: array, memory map, nested list, or tensor of any float type.
        labels: ``(N,)`` integers, in any order and with any gaps.
        metrics: names such as ``recall@1``; ``macro_recall@1`` is the mean over classes of the class means.
        query: ``(N,)`` true for the rows that ask; with ``gallery``, or neither.
        gallery: ``(N,)`` true for the rows that are searched; or embeddings and labels of a gallery apart, for which
            all rows of ``embeddings`` are queries. It may hold classes that no query has (distractors).
        pairs: pairs of rows that metrics of verification compare, with folds; by default all queries with the gallery.
        distance: ``cosine`` compares rows brought to length 1, ``euclidean`` rows as they are.
        restarts: k-means restarts that cluster metrics are averaged over; restart r is the same for every total.
        seed: seed of the restarts.
        memory: working memory besides the embeddings and a few numbers per item: bytes, or text such as ``512MB``.
        engine: who proposes neighbors where lists are needed.
        precision: of the tiles of similarities. ``float64`` is a slower check that must give the same ranks.
        device: where similarities are computed, such as ``cuda``.
        tell: hears of progress.

    Raises:
        OptionError: for an unknown metric, or an option out of range.
        DataError: for embeddings, labels or masks of the wrong shape or type, NaN, infinities and zero vectors, or if a
            ranking is asked for and no query has another item of its class to find.

    >>> scores = evaluate([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]], [7, 7, 3, 3], ["recall@1", "nmi"])
    >>> scores["recall@1"], scores["nmi"]
    (1.0, 1.0)
    """
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    if not names:
        raise OptionError([Problem(("metrics",), "names no metric")])
    asked = [parse_metric(str(name)) for name in names]
    _check_choice("engine", engine, ("auto", "faiss", "torch"))
    _check_choice("precision", precision, ("float32", "float64"))
    _check_choice("distance", distance, ("cosine", "euclidean"))
    _check_whole("restarts", restarts, 1)
    _check_whole("seed", seed, 0)
    if pairs is not None and not _of(asked, PairMetric):
        raise OptionError(
            [Problem(("pairs",), "no metric that was asked for compares pairs; add roc_auc, for example")]
        )
    where = _device(device)
    work = _Work(
        arrange(embeddings, labels, query, gallery, distance, where),
        read_bytes(memory),
        engine,
        getattr(torch, precision),
        tell,
    )
    found: Found = {}
    found |= work.ranked(_of(asked, RankMetric))
    found |= work.clustered(_of(asked, ClusterMetric), [derive_seed(seed, "kmeans", r) for r in range(restarts)])
    found |= work.paired(_of(asked, PairMetric), pairs)
    found |= work.centered(_of(asked, CenterMetric))
    found |= work.measured(_of(asked, GeometryMetric))
    ordered = {
        key: found[key] for metric in asked for key in (metric.name, f"{metric.name}_restart_std") if key in found
    }
    relevant = work.items.relevance.relevant
    return Scores(
        ordered,
        queries=int((relevant > 0).sum()),
        singletons=int((relevant == 0).sum()),
        gallery=len(work.items.gallery),
        per_query=work.per_query,
        unconverged=len(work.unconverged),
    )


@dataclass(frozen=True)
class _Work:
    """What the metrics are computed from, and what is found for each query on the way."""

    items: Items
    memory: int
    engine: Engine
    dtype: torch.dtype
    tell: Tell
    per_query: PerQuery = field(default_factory=dict)
    unconverged: list[int] = field(default_factory=list)

    def ranked(self, metrics: Sequence[RankMetric]) -> Found:
        if not metrics:
            return {}
        relevance = self.items.relevance
        if not relevance.relevant.any():
            raise DataError(f"{_nothing(self.items)}, so there is nothing to retrieve")
        depth = np.zeros(len(relevance.relevant), dtype=np.int64)
        for metric in metrics:
            depth = np.maximum(depth, metric.depth(relevance.relevant) if metric.depth else 0)
        blocks: list[PerQuery] = []
        ranking = rank(
            *self.items.operands(),
            relevance,
            depth,
            memory=self.memory,
            engine=self.engine,
            dtype=self.dtype,
            tell=lambda done, total: self.tell("ranking", done, total),
        )
        for ranks in ranking:
            values = {metric.name.removeprefix("macro_"): metric.per_query(ranks) for metric in metrics}
            blocks.append({"query": ranks.queries, "first_hit_rank": ranks.first, **values})
        whole = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        classes = relevance.query_classes[whole["query"]]
        self.per_query["query"] = self.items.rows[whole.pop("query")]
        self.per_query["label"] = self.items.labels[classes]
        self.per_query.update(whole)
        return {
            metric.name: float(
                class_means(classes, whole[metric.name.removeprefix("macro_")])[1].mean()
                if metric.macro
                else whole[metric.name].mean()
            )
            for metric in metrics
        }

    def clustered(self, metrics: Sequence[ClusterMetric], seeds: Sequence[int]) -> Found:
        if not metrics:
            return {}
        classes = np.unique(self.items.member_classes, return_inverse=True)[1]
        values: dict[str, list[float]] = {metric.name: [] for metric in metrics}
        self.tell("k-means", 0, len(seeds))
        count, on_limit = int(classes.max()) + 1, partial(self.unconverged.append, 1)
        runs = clusterings(self.items.members, count, seeds, memory=self.memory, on_limit=on_limit)
        for done, clusters in enumerate(runs, start=1):
            for metric in metrics:
                values[metric.name].append(metric.score(classes, clusters))
            self.tell("k-means", done, len(seeds))
        spread = {name + SPREAD: _deviation(found) for name, found in values.items()}
        return {name: float(np.mean(found)) for name, found in values.items()} | spread

    def paired(self, metrics: Sequence[PairMetric], pairs: PairList | None) -> Found:
        if not metrics:
            return {}
        items, relevance = self.items, self.items.relevance
        self.tell("pairs", 0, 1)
        if pairs is not None:
            first, second = (self._rows(rows) for rows in (pairs.first, pairs.second))
            scores = listed_pairs(first, second, pairs.same, pairs.folds, memory=self.memory)
        else:
            sides = (items.queries, relevance.query_classes, items.gallery, relevance.gallery_classes)
            scores = all_pairs(*sides, relevance.own, memory=self.memory)
        self.tell("pairs", 1, 1)
        return {metric.name: metric.score(scores) for metric in metrics}

    def centered(self, metrics: Sequence[CenterMetric]) -> Found:
        if not metrics:
            return {}
        items, relevance = self.items, self.items.relevance
        self.tell("centers", 0, 1)
        sides = (items.queries, relevance.query_classes, items.gallery, relevance.gallery_classes)
        nearest = nearest_centers(*sides, relevance.own, memory=self.memory)
        self.per_query.setdefault("query", items.rows[nearest.queries])
        self.per_query.setdefault("label", items.labels[nearest.labels])
        self.per_query["center_accuracy"] = (nearest.labels == nearest.predicted).astype(np.float64)
        self.tell("centers", 1, 1)
        return {metric.name: metric.score(nearest.labels, nearest.predicted) for metric in metrics}

    def _rows(self, rows: npt.NDArray[np.int64]) -> Points:
        base = self.items.queries
        if len(rows) and (rows.min() < 0 or rows.max() >= len(base.values)):
            raise DataError(f"pairs: rows must lie in [0, {len(base.values)}), not {rows.min()} to {rows.max()}")
        return Points(base.values, rows, base.unit, base.device)

    def measured(self, metrics: Sequence[GeometryMetric]) -> Found:
        return {metric.name: metric.score(self.items.members, self.items.member_classes) for metric in metrics}


def read_bytes(memory: str | int) -> int:
    """Return a number of bytes, from ``512MB``, ``1GiB`` or the number itself.

    Raises:
        OptionError: if it is no such thing, or too little to work with.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmg]i?b)?\s*", str(memory), re.IGNORECASE)
    count = int(float(match[1]) * UNITS[(match[2] or "").lower()]) if match else 0
    if count < LEAST_MEMORY:
        raise OptionError(
            [Problem(("memory",), f"must be bytes, at least 64MiB, such as 512MB or 1GB, not {memory!r}")]
        )
    return count


def _device(name: str | torch.device) -> torch.device:
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise OptionError([Problem(("device",), f"must be such as cpu or cuda:0, not {name!r}")]) from error


def _of(metrics: Sequence[Metric], kind: type[M]) -> list[M]:
    return [metric for metric in metrics if isinstance(metric, kind)]


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _nothing(items: Items) -> str:
    if items.queries is items.gallery:
        return f"no class has two items ({len(items.gallery)} items in all)"
    return f"no class of the {len(items.queries)} queries has another item in the gallery of {len(items.gallery)}"


def _check_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise OptionError([Problem((name,), f"must be a whole number, at least {least}, not {value!r}")])


def _check_choice(name: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise OptionError([Problem((name,), f"must be one of {', '.join(known)}, not {value!r}")])
