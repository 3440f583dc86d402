"""What was measured of each query of a run, read from its folder."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dml_bench.errors import ResultsError
from dml_bench.reports.statistics import ClassMeans
from dml_bench.results.record import RunRecord

FILE = "per_query.npz"


@dataclass(frozen=True, eq=False)
class Measured:
    """The runs of one recipe by one metric; ``queries`` tells whether others were measured on the same queries."""

    means: ClassMeans
    queries: bytes


def per_query(run: RunRecord) -> Mapping[str, npt.NDArray[Any]]:
    """Return the values of each query by metric, ``query`` and ``label`` with them; empty if the run kept none.

    Raises:
        ResultsError: if the file is damaged.
    """
    path = run.folder / FILE if run.folder else None
    return _read(path, path.stat().st_mtime_ns) if path and path.exists() else {}


def measured(runs: Sequence[RunRecord], metric: str) -> Measured | None:
    """Return the class means of runs that differ in their seed alone; None if one of them kept no such values.

    Raises:
        ResultsError: if they were not measured on the same queries, or a file is damaged.
    """
    found = [per_query(run) for run in runs]
    if not found or not all(metric in values for values in found):
        return None
    asked = [values["query"].tobytes() + values["label"].tobytes() for values in found]
    if len(set(asked)) > 1:
        raise ResultsError(f"{runs[0].folder}: its queries are not those of other seeds of recipe {runs[0].recipe_id}")
    return Measured(ClassMeans.of(found[0]["label"], [values[metric] for values in found]), asked[0])


@lru_cache(maxsize=4096)
def _read(path: Path, stamp: int) -> Mapping[str, npt.NDArray[Any]]:
    try:
        with np.load(path) as stored:
            values = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ResultsError(f"{path}: damaged, the results per query cannot be read ({type(error).__name__})") from None
    whole = ("query", "label", "first_hit_rank")
    return {name: part if name in whole else part.astype(np.float64) for name, part in values.items()}
