"""Ranking metrics made smooth: each sample of the batch queries the others, and ranks are sums of sigmoids.

In the formulas S are cosines, q a query, P its positives and G(u, T) = 1 / (1 + exp(-u / T)), a smooth step.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dml_bench.losses.loss import LOSSES, Loss, Task
from dml_bench.losses.miners import pairs_of
from dml_bench.losses.numerics import mean_or_zero, unit
from dml_bench.registry import Count, Positive

BLOCK = 2**24
"""Sigmoids held at once, 64 MB in float32; a batch that needs more computes them again for its gradient."""


class SmoothRanking(Loss):
    """Score each query by the smooth ranks of its positives; the loss is 1 minus the mean score.

    Args:
        task: the facts about the training set.
        temperature: > 0, of the smooth step.
        include_query: whether the query is an item of its own database.
    """

    def __init__(self, task: Task, *, temperature: float, include_query: bool) -> None:
        super().__init__(task)
        self.temperature, self.include_query = temperature, include_query

    def compute(
        self, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"], indices: Int[Tensor, " N"] | None
    ) -> dict[str, Tensor]:
        """Return the mean over the queries that have a positive."""
        directions = unit(embeddings)
        similarities, (positives, negatives) = directions @ directions.T, pairs_of(labels)
        database = torch.ones_like(positives) if self.include_query else positives | negatives
        costs = 1 - self.scores(similarities, positives, database)
        return {"queries": mean_or_zero(costs, embeddings)}

    @abstractmethod
    def scores(
        self, similarities: Float[Tensor, "N N"], positives: Bool[Tensor, "N N"], database: Bool[Tensor, "N N"]
    ) -> Float[Tensor, " Q"]:
        """Return the scores of the queries that have a positive, each in [0, 1]."""

    def ranks(
        self,
        similarities: Float[Tensor, "N N"],
        queries: Int[Tensor, " M"],
        items: Int[Tensor, " M"],
        *databases: Bool[Tensor, "N N"],
    ) -> list[Float[Tensor, " M"]]:
        """Return the smooth rank of each item for its query in each database, from 1 on."""

        def some(similarities: Tensor, queries: Tensor, items: Tensor) -> list[Tensor]:
            own = similarities[queries, items]
            above = ((similarities[queries] - own[:, None]) / self.temperature).sigmoid()
            above = above.scatter(1, items[:, None], 0.0)  # an item is not ahead of itself
            return [1 + (above * database[queries]).sum(dim=1) for database in databases]

        rows = max(BLOCK // len(similarities), 1)
        if len(queries) <= rows:
            return some(similarities, queries, items)
        blocks = zip(torch.split(queries, rows), torch.split(items, rows), strict=True)
        parts = [checkpoint(some, similarities, *block, use_reentrant=False) for block in blocks]
        return [torch.cat(part) for part in zip(*parts, strict=True)]


class SmoothAP(SmoothRanking):
    """Average precision of each query, smooth."""

    def scores(
        self, similarities: Float[Tensor, "N N"], positives: Bool[Tensor, "N N"], database: Bool[Tensor, "N N"]
    ) -> Float[Tensor, " Q"]:
        """Return the average precisions; a query in its database is one of its positives."""
        itself = torch.eye(len(positives), dtype=torch.bool, device=positives.device) & database
        relevant = positives | itself & positives.any(dim=1, keepdim=True)
        queries, items = relevant.nonzero(as_tuple=True)
        among_relevant, among_all = self.ranks(similarities, queries, items, relevant, database)
        return _means(among_relevant / among_all, queries, relevant)


class RecallAtK(SmoothRanking):
    """Share of each query's positives among its first k items, smooth, averaged over ``k``.

    Args:
        task: the facts about the training set.
        k: numbers of items, each >= 1.
        rank_temperature: > 0, of the smooth step that counts what is ahead of an item.
        hit_temperature: > 0, of the smooth step from rank to hit.
        include_query: whether the query is an item of its own database.
    """

    def __init__(
        self, task: Task, *, k: Sequence[int], rank_temperature: float, hit_temperature: float, include_query: bool
    ) -> None:
        super().__init__(task, temperature=rank_temperature, include_query=include_query)
        self.k, self.hit_temperature = tuple(k), hit_temperature

    def scores(
        self, similarities: Float[Tensor, "N N"], positives: Bool[Tensor, "N N"], database: Bool[Tensor, "N N"]
    ) -> Float[Tensor, " Q"]:
        """Return the mean recalls."""
        queries, items = positives.nonzero(as_tuple=True)
        (ranks,) = self.ranks(similarities, queries, items, database)
        counts = positives.sum(dim=1)
        recalls = []
        for k in self.k:
            hits = _sums(((k - ranks) / self.hit_temperature).sigmoid(), queries, positives)
            recalls.append(hits.clamp(max=k) / counts[counts > 0].clamp(max=k))
        return torch.stack(recalls).mean(dim=0)


def _sums(
    values: Float[Tensor, " M"], queries: Int[Tensor, " M"], relevant: Bool[Tensor, "N N"]
) -> Float[Tensor, " Q"]:
    """Add up the values of each query that has any."""
    sums = values.new_zeros(len(relevant)).index_add(0, queries, values)
    return sums[relevant.any(dim=1)]


def _means(
    values: Float[Tensor, " M"], queries: Int[Tensor, " M"], relevant: Bool[Tensor, "N N"]
) -> Float[Tensor, " Q"]:
    """Average the values of each query that has any."""
    counts = relevant.sum(dim=1)
    return _sums(values, queries, relevant) / counts[counts > 0]


@LOSSES.register("smooth_ap")
def smooth_ap(task: Task, /, *, temperature: Positive = 0.01, include_query: bool = False) -> Loss:
    """Raise the average precision of each sample as a query for the others.

    loss = 1 - mean_{i in P} (1 + sum_{j in P, j != i} G(S_qj - S_qi, T)) / (1 + sum_{j != i} G(S_qj - S_qi, T)),
    T = temperature, j over the batch without q; mean over the queries that have a positive. include_query=true counts q
    as an item of its own database and as one of its positives. Time grows with N times the number of positive pairs,
    memory does not.

    Source: Brown et al., Smooth-AP, ECCV 2020, Eq. 6; include_query=true as in the authors' code.
    Differs: the query, always the first and right, is left out, as in the metric. Classes may differ in size. The class
        of that name in pytorch-metric-learning 2.9 mixes up the positives unless a batch has as many classes as
        samples of each.
    """
    return SmoothAP(task, temperature=temperature, include_query=include_query)


@LOSSES.register("recall_at_k")
def recall_at_k(
    task: Task,
    /,
    *,
    k: Annotated[Sequence[Count], Field(min_length=1)] = (1, 2, 4, 8, 16),
    rank_temperature: Positive = 0.01,
    hit_temperature: Positive = 1.0,
    include_query: bool = False,
) -> Loss:
    """Raise the recall at several k of each sample as a query for the others.

    loss = 1 - mean_k min(k, sum_{i in P} G(k - r_i, t2)) / min(k, |P|), r_i = 1 + sum_{j != i} G(S_qj - S_qi, t1),
    t1 = rank_temperature, t2 = hit_temperature, j over the batch without q; mean over the queries that have a positive.
    include_query=true counts q as an item, not as a positive, which moves every positive down by one rank.

    Source: Patel et al., Recall@k Surrogate Loss with Large Batches and Similarity Mixup, CVPR 2022, Eqs. 5 to 7;
        include_query=true as in the authors' code.
    Differs: the query is left out of its own database. Similarity mixup and batches larger than memory are no part of
        the loss.
    """
    return RecallAtK(
        task,
        k=k,
        rank_temperature=rank_temperature,
        hit_temperature=hit_temperature,
        include_query=include_query,
    )
