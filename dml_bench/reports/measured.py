"""What was measured of each query of a run, read from its folder."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dml_bench.errors import OptionError, ResultsError
from dml_bench.evaluation.metrics import CenterMetric, RankMetric, parse_metric
from dml_bench.reports.statistics import ClassMeans, Estimate, estimate, p_value
from dml_bench.results.record import RunRecord

FILE = "per_query.npz"
NOT_METRICS = ("query", "label", "first_hit_rank")


@dataclass(frozen=True, eq=False)
class Measured:
    """The runs of one recipe by one metric; ``queries`` tells whether others were measured on the same queries."""

    means: ClassMeans
    queries: str

    @cached_property
    def estimate(self) -> Estimate:
        """How sure the mean is, which takes resampling and is done once."""
        return estimate(self.means)


def of_queries(metric: str) -> bool:
    """Tell whether a metric is read off one query after the other; only such ones rank losses.

    Others, such as nmi, have no values per query: clusterings differ by points for the same embeddings. One that this
    version does not know is taken to be read off queries, as most are.
    """
    try:
        return isinstance(parse_metric(metric), RankMetric | CenterMetric)
    except OptionError:
        return True


def per_query(run: RunRecord) -> Mapping[str, npt.NDArray[Any]]:
    """Return the values of each query by metric, ``query`` and ``label`` with them; empty if the run kept none.

    Raises:
        ResultsError: if the file is damaged.
    """
    path = run.folder / FILE if run.folder else None
    return _read(path) if path and path.exists() else {}


def measured(runs: Sequence[RunRecord], metric: str) -> Measured | None:
    """Return the class means of runs that differ in their seed alone; None if one of them kept no such values.

    Raises:
        ResultsError: if they were not measured on the same queries, or a file is damaged.
    """
    paths = [run.folder / FILE for run in runs if run.folder]
    if not runs or len(paths) < len(runs) or not all(path.exists() for path in paths):
        return None
    found = tuple((path, path.stat().st_mtime_ns) for path in paths)
    if len({_by_class(*file)[0] for file in found}) > 1:
        raise ResultsError(f"{runs[0].folder}: its queries are not those of other seeds of recipe {runs[0].recipe_id}")
    return _joined(found, metric)


@lru_cache(maxsize=2**16)
def p_of(a: Measured, b: Measured) -> float:
    """Return ``statistics.p_value`` of two losses; every table of a report asks for it anew."""
    return p_value(a.means, b.means)


@lru_cache(maxsize=4096)
def _joined(files: tuple[tuple[Path, int], ...], metric: str) -> Measured | None:
    """Return the class means of the same queries in several files, the same object for the same files."""
    found = [_by_class(*file) for file in files]
    if not all(metric in means for _, means in found):
        return None
    means = [by_metric[metric] for _, by_metric in found]
    return Measured(ClassMeans(np.concatenate([run.values for run in means]), means[0].counts), found[0][0])


@lru_cache(maxsize=4096)
def _by_class(path: Path, stamp: int) -> tuple[str, dict[str, ClassMeans]]:
    """Return what tells the queries of one run from others, and its class means by metric, which take little memory."""
    values = _read(path)
    queries = hashlib.sha256(values["query"].tobytes() + values["label"].tobytes()).hexdigest()
    metrics = {name: part.astype(np.float64) for name, part in values.items() if name not in NOT_METRICS}
    return queries, {name: ClassMeans.of(values["label"], [part]) for name, part in metrics.items()}


def _read(path: Path) -> Mapping[str, npt.NDArray[Any]]:
    try:
        with np.load(path) as stored:
            values = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ResultsError(f"{path}: damaged, the results per query cannot be read ({type(error).__name__})") from None
    if not {"query", "label"} <= values.keys():
        raise ResultsError(f"{path}: damaged, it does not say which queries were asked")
    return values
