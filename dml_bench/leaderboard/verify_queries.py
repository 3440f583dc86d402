"""What the values of each query must show: the metrics of the record, and no contradiction among themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float64, Int64

from dml_bench.evaluation.metrics import CenterMetric, RankMetric, parse_metric
from dml_bench.reports.measured import NOT_METRICS, per_query
from dml_bench.reports.scales import scale_of
from dml_bench.results.record import RunRecord

CLOSE = 1e-6
"""Values per query are stored in single precision; their mean is the record's to this."""

Values = Float64[np.ndarray, " Q"]
Integers = Int64[np.ndarray, " Q"]
Wrong = Iterator[tuple[str, Bool[np.ndarray, " Q"]]]


def asked(run: RunRecord) -> Sequence[str]:
    """Return the names of the metrics that a recipe asks for."""
    return list((run.recipe.get("evaluation") or {}).get("metrics", []))


def queries_make_the_metrics(folder: Path, run: RunRecord) -> Iterator[str]:
    """Compare metrics with the mean of their values per query, and the values of one query with each other."""
    stored = per_query(run)
    if not stored:
        yield "has no per_query.npz"
        return
    if any(part.ndim != 1 or len(part) != len(stored["query"]) for part in stored.values()):
        yield "per_query.npz: its columns must be one-dimensional and of one length"
        return
    columns = _columns(run)
    for name in columns - stored.keys():
        yield f"per_query.npz has no column {name}, which the recipe's metrics have"
    for name in stored.keys() - columns:
        yield f"per_query.npz: {name} does not belong here"
    if len(stored["query"]) != run.data.get("queries", len(stored["query"])):
        yield f"per_query.npz has {len(stored['query'])} queries, the record {run.data['queries']}"
    names = [name for name in stored if name in columns and name not in NOT_METRICS]
    values = {name: stored[name].astype(np.float64) for name in names}
    places, counts = np.unique(stored["label"], return_inverse=True, return_counts=True)[1:]
    for name, part in values.items():
        by_class = float((np.bincount(places, part) / counts).mean())
        for written, mean in ((name, part.mean()), (f"macro_{name}", by_class)):
            if written in run.metrics and not abs(mean - run.metrics[written]) <= CLOSE:
                yield f"{written} is {run.metrics[written]:.6f} in the record, and {mean:.6f} over its queries"
    wrong = [*_out_of_range(values), *_against_each_other(values)]
    if "first_hit_rank" in stored and "first_hit_rank" in columns:
        ranks = stored["first_hit_rank"]
        wrong += [("first_hit_rank of {} is no rank", ranks < 1), *_against_ranks(values, np.maximum(ranks, 1))]
        wrong += _against_classes(values, np.maximum(ranks, 1), places, counts if _everyone_asks(run) else None)
    for line, which in wrong:
        if many := int(which.sum()):
            yield line.format(f"{many} queries" if many > 1 else "1 query")


def _columns(run: RunRecord) -> set[str]:
    """Return what ``per_query.npz`` has for the metrics of a recipe."""
    kinds = {name: parse_metric(name) for name in asked(run)}
    ranked = {name.removeprefix("macro_") for name, kind in kinds.items() if isinstance(kind, RankMetric)}
    centered = {"center_accuracy"} if any(isinstance(kind, CenterMetric) for kind in kinds.values()) else set()
    return {"query", "label", *centered, *ranked, *({"first_hit_rank"} if ranked else ())}


def _everyone_asks(run: RunRecord) -> bool:
    """Return whether every test item is a query, or would be if it had another of its class to find."""
    items = (run.data.get("test") or {}).get("images")
    return bool(items == run.data.get("queries", 0) + run.data.get("singletons", 0))


def _out_of_range(values: Mapping[str, Values]) -> Wrong:
    for name, part in values.items():
        if scale_of(name).bounded:
            yield f"{name} of {{}} is out of its range", ~((part >= 0) & (part <= 1 + CLOSE))


def _against_each_other(values: Mapping[str, Values]) -> Wrong:
    """Compare map@r with r_precision, p.

    Of c = pR relevant items among the nearest R, the j-th has a P between j/R and 1, so that map@r, the sum of them
    over R, lies between c(c + 1)/(2 R^2) > p^2/2 and p.
    """
    if values.keys() >= {"map@r", "r_precision"}:
        mean, share = values["map@r"], values["r_precision"]
        yield "map@r of {} is more than r_precision", mean > share + CLOSE
        yield "map@r of {} is less than r_precision allows", (mean < share**2 / 2 - CLOSE) | ((mean > 0) != (share > 0))


def _against_ranks(values: Mapping[str, Values], ranks: Integers) -> Wrong:
    """Compare what is cut off at a number with the rank of the first hit; recall@k then grows with k."""
    for name, part in values.items():
        kind, _, number = name.partition("@")
        line = f"{name} of {{}} is not what the rank of the first hit says"
        hit = ranks <= int(number) if number.isdigit() else None
        if kind == "recall" and hit is not None:
            yield line, part != hit
        elif kind in ("precision", "map") and hit is not None:
            yield line, (part > 0) != hit
        elif name == "mrr":
            yield line, abs(part - 1 / ranks) > CLOSE


def _against_classes(
    values: Mapping[str, Values],
    ranks: Integers,
    places: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64] | None,
) -> Wrong:
    """Compare what is cut off at R with the rank of the first hit: it is more than 0 if that is at most R.

    R is not stored. Within a class it differs by one at most, by whether a query is in the gallery: where one query
    has a hit at a rank, none with its first hit before that may have none, and none may at rank 1. Where everyone asks,
    R is at most one less than the ``counts`` of a class; the first hit adds 1/(rank R) to map@r, 1/R to r_precision.
    """
    for name in ("map@r", "r_precision"):
        if name not in values:
            continue
        part, found = values[name], values[name] > 0
        reach = np.full(places.max() + 1, 2)
        np.maximum.at(reach, places[found], ranks[found])
        wrong = ~found & (ranks < reach[places])
        if counts is not None:
            most = np.maximum(counts - 1, 1)[places]
            least = 1 / most / (ranks if name == "map@r" else 1)
            wrong |= found & ((ranks > most) | (part < least - CLOSE))
        yield f"{name} of {{}} is not what the rank of the first hit says", wrong
