"""What a metric is, and the registry of the known ones; the docstring of an entry is its definition.

Each kind of metric is read off one thing that ``evaluate`` computes once for all: ranks, clusters, pairs, the class
of the nearest center, or the points themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float64, Int64

from dml_bench.errors import OptionError, Problem
from dml_bench.registry import Registry, suggestion

if TYPE_CHECKING:
    from dml_bench.evaluation.pairs import PairScores
    from dml_bench.search.points import Points
    from dml_bench.search.ranks import Ranks

PerQuery = Float64[np.ndarray, " Q"]
Labels = Int64[np.ndarray, " N"]


@dataclass(frozen=True)
class Metric:
    """What all kinds of metrics have.

    Args:
        name: as users write it, such as ``recall@1``.
        better: which values are better; None where neither is.
        share: whether values are shares in [0, 1], which tables show in percent.
    """

    name: str
    better: Literal["higher", "lower"] | None = "higher"
    share: bool = True


@dataclass(frozen=True, kw_only=True)
class RankMetric(Metric):
    """The mean over queries of a value read off the ranks of a query's relevant items.

    Args:
        per_query: maps ranks to values ``(Q,)``.
        depth: how far down ranks must be known, given the number of relevant items; None for the best one's alone.
    """

    per_query: Callable[[Ranks], PerQuery]
    depth: Callable[[int], int] | None


@dataclass(frozen=True, kw_only=True)
class ClusterMetric(Metric):
    """A comparison of classes ``(N,)`` with k-means clusters ``(N,)``, as many clusters as classes."""

    score: Callable[[Labels, Labels], float]


@dataclass(frozen=True, kw_only=True)
class PairMetric(Metric):
    """A value read off the similarities of pairs of the same class and of different ones."""

    score: Callable[[PairScores], float]


@dataclass(frozen=True, kw_only=True)
class CenterMetric(Metric):
    """A comparison of the queries' classes ``(Q,)`` with those of the nearest centers ``(Q,)``."""

    score: Callable[[Labels, Labels], float]


@dataclass(frozen=True, kw_only=True)
class GeometryMetric(Metric):
    """A value read off the points and their classes ``(N,)``."""

    score: Callable[[Points, Labels], float]


METRICS: Registry[Metric] = Registry(
    "metrics",
    [
        f"dml_bench.evaluation.{module}"
        for module in ("ranking", "clustering", "verification", "classification", "diagnostics")
    ],
)
"""Factories ``(*, ...) -> Metric``; what follows an ``@`` is an option, written as a number."""


def parse_metric(name: str) -> Metric:
    """Return the metric that users call ``name``: ``recall@10`` is ``recall@k`` with k = 10, ``tar@1e-3`` ``tar@far``.

    Raises:
        OptionError: for an unknown name, with the closest known one, or a number that the metric does not take.
    """
    word, at, number = name.partition("@")
    option = {e.name.partition("@")[0]: e.name.partition("@")[2] for e in METRICS if "@" in e.name}.get(word, "")
    if at and option and (value := _number(number)) is not None:
        try:
            return METRICS.build(f"{word}@{option}", **{option: value})
        except OptionError as error:
            raise OptionError([Problem((), f"'{name}': {problem}") for problem in error.problems]) from None
    if name in METRICS and not option:
        return METRICS.build(name)
    known = [e.name for e in METRICS]
    hint = suggestion(f"{word}{at}k" if at else name, known)
    raise OptionError([Problem((), f"no metric named '{name}'{hint}; known: {', '.join(known)} (k = 1, 2, ...)")])


def _number(text: str) -> int | float | None:
    """Read ``10`` as an integer and ``1e-3`` as a float; None for anything else."""
    if re.fullmatch(r"[0-9]{1,9}", text):
        return int(text)
    return float(text) if re.fullmatch(r"[0-9]*\.?[0-9]+([eE][-+]?[0-9]{1,3})?", text) else None
