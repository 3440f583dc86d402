"""What a metric is, and the registry of the known ones; the docstring of an entry is its definition.

Each kind of metric is read off one thing that ``evaluate`` computes once for all: ranks, clusters, pairs, the class
of the nearest center, or the points themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
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
        depth: how far down ranks must be known, given the numbers of relevant items; None for the best one's alone.
        macro: whether each class counts the same, however many queries it has.
    """

    per_query: Callable[[Ranks], PerQuery]
    depth: Callable[[Labels], Labels | int] | None
    macro: bool = False


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


ALL_METRICS = (
    *("recall@1", "recall@2", "recall@4", "recall@8", "precision@1", "map@r", "map@10", "r_precision", "mrr"),
    *("macro_recall@1", "nmi", "ami", "ari", "pairwise_f1", "center_accuracy", "center_accuracy_macro"),
    *("roc_auc", "eer", "tar@0.01", "tar@0.001", "intra_inter_ratio", "alignment", "uniformity", "spectral_decay"),
)
"""One of every kind that needs nothing but embeddings and labels."""


def parse_metric(name: str) -> Metric:
    """Return the metric that users call ``name``.

    ``recall@10`` is ``recall@k`` with k = 10, ``tar@1e-3`` is ``tar@far`` with far = 0.001, and ``nmi_geometric`` is
    ``nmi`` with that average. ``macro_`` before a ranking metric asks for the mean over classes of the means over their
    queries.

    Raises:
        OptionError: for an unknown name, with the closest known one, or a number that the metric does not take.
    """
    word, at, text = name.partition("@")
    base, _, average = name.rpartition("_")
    number = _number(text)
    written = {entry.name: option.name for entry in METRICS if "@" in entry.name for option in entry.options}
    for entry, option in written.items():
        if number is not None and entry == f"{word}@{option}":
            return _built(name, entry, **{option: number})
    if name in METRICS and name not in written:
        return METRICS.build(name)
    if base in ("nmi", "ami"):
        return _built(name, base, average_method=average)
    if name.startswith("macro_") and not name.startswith("macro_macro_"):
        metric = parse_metric(name.removeprefix("macro_"))
        if isinstance(metric, RankMetric):
            return replace(metric, name=name, macro=True)
    known = [entry.name for entry in METRICS]
    hint = suggestion(f"{word}@k" if number is not None else name, known)
    if at or name in known:
        hint = hint.replace("@k'", f"@{1 if number is None else text}'")
    raise OptionError([Problem((), f"no metric named '{name}'{hint}; known: {', '.join(known)} (k = 1, 2, ...)")])


def _built(name: str, entry: str, **options: object) -> Metric:
    try:
        return replace(METRICS.build(entry, **options), name=name)
    except OptionError as error:
        raise OptionError([Problem((), f"metric '{name}': {problem}") for problem in error.problems]) from None


def _number(text: str) -> int | float | None:
    """Read ``10`` as an integer, ``0.1`` and ``1e-3`` as floats; None for anything else."""
    if re.fullmatch(r"0|[1-9][0-9]{0,8}", text):
        return int(text)
    return float(text) if re.fullmatch(r"(?!0[0-9])[0-9]{1,9}(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,2})?", text) else None
