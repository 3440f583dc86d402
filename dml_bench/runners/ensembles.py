"""The folds of a cross-validation as one: the mean of their scores, and the score of their embeddings side by side."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dml_bench.data.embedding_files import EmbeddingFile
from dml_bench.errors import OptionError, Problem, ResultsError
from dml_bench.evaluation.metrics import parse_metric
from dml_bench.flow import threads
from dml_bench.measuring import score
from dml_bench.recipe.identity import recipe_id
from dml_bench.results.record import RunRecord
from dml_bench.results.store import find_runs
from dml_bench.runners.rescoring import rules_of, stored_embeddings, threads_of

AXIS = "selection.fold"


@dataclass(frozen=True)
class Ensemble:
    """The runs of one recipe and seed, one for each fold.

    Attributes:
        folders: of the runs, by fold.
        members: their records, by fold.
        separate: metric to the mean over the folds of each network's own score.
        spread: metric to the sample standard deviation over the folds.
        concatenated: metric to the score of the embeddings, each of length 1, side by side.
        dim: dimensions of the concatenated embeddings.
    """

    folders: tuple[Path, ...]
    members: tuple[RunRecord, ...]
    separate: Mapping[str, float]
    spread: Mapping[str, float]
    concatenated: Mapping[str, float]
    dim: int

    @property
    def options(self) -> dict[str, Any]:
        """What sets the recipe apart in its grid, besides the fold."""
        return {name: value for name, value in self.members[0].options.items() if name != AXIS}


def ensembles(folders: Iterable[Path], metrics: Sequence[str], *, memory: str | int = "1GB") -> list[Ensemble]:
    """Score the folds of every recipe and seed below ``folders``: each network for itself, and all as one.

    Args:
        folders: folders of runs, or runs, made with ``selection: {name: validation, folds: F, fold: 1 to F}``.
        metrics: names such as ``map@r``; measured anew, as each recipe says.
        memory: see ``evaluate``.

    Raises:
        OptionError: for an unknown metric.
        ResultsError: if there is no such run, a fold is missing or failed, or the folds' test items differ.

    Source: Musgrave, Belongie, Lim, "A Metric Learning Reality Check", ECCV 2020: "separated" and "concatenated".
    """
    if not metrics:
        raise OptionError([Problem(("metrics",), "names no metric")])
    for name in metrics:
        parse_metric(name)
    groups: dict[str, dict[int, tuple[Path, RunRecord]]] = defaultdict(dict)
    for folder, record in find_runs(folders).items():
        selection = record.recipe.get("selection", {})
        if selection.get("name") == "validation" and record.recipe.get("loss"):
            found = groups[_family(record)].setdefault(selection["fold"], (folder, record))
            if found[1].metrics != record.metrics:
                raise ResultsError(f"{folder}: is the same run as {found[0]} with other numbers; name one of them")
    if not groups:
        raise ResultsError("no run was selected by validation, which has folds; there is nothing to put together")
    return [_ensemble(members, metrics, memory) for members in groups.values()]


def _family(record: RunRecord) -> str:
    """Return what the folds of one recipe and seed share: all but the fold."""
    recipe = {**record.recipe, "selection": {**record.recipe["selection"], "fold": None}}
    recipe["evaluation"] = {**recipe["evaluation"], "metrics": []}
    return f"{recipe_id(recipe)}-s{record.seed} {record.data.get('digest')}"


def _ensemble(found: Mapping[int, tuple[Path, RunRecord]], metrics: Sequence[str], memory: str | int) -> Ensemble:
    folders = tuple(found[fold][0] for fold in sorted(found))
    members = tuple(found[fold][1] for fold in sorted(found))
    wanted = members[0].recipe["selection"]["folds"]
    if missing := [str(fold) for fold in range(1, wanted + 1) if fold not in found]:
        raise ResultsError(f"{folders[0]}: of its {wanted} folds, there is no run of fold {', '.join(missing)}")
    for folder, member in zip(folders, members, strict=True):
        if member.status == "failed":
            raise ResultsError(f"{folder}: failed, so its folds cannot be put together: {member.reason}")
    files = [
        stored_embeddings(folder / "embeddings.npz", member) for folder, member in zip(folders, members, strict=True)
    ]
    _check_alike(folders, files)
    rules = rules_of(members[0], metrics, None)
    sides: dict[str, Any] = {"query": files[0].query, "gallery": files[0].gallery, "memory": memory}

    def measured(embeddings: npt.NDArray[Any]) -> dict[str, float]:
        with threads(threads_of(members[0])):
            scores = score(embeddings, files[0].labels, rules, members[0].seed, **sides)
        return {name: scores[name] for name in metrics}

    alone = [measured(file.embeddings) for file in files]
    joined = np.concatenate([_unit(file.embeddings) for file in files], axis=1)
    return Ensemble(
        folders,
        members,
        {name: statistics.fmean(one[name] for one in alone) for name in metrics},
        {name: statistics.stdev(one[name] for one in alone) for name in metrics},
        measured(joined),
        joined.shape[1],
    )


def _check_alike(folders: Sequence[Path], files: Sequence[EmbeddingFile]) -> None:
    for folder, file in zip(folders[1:], files[1:], strict=True):
        if not np.array_equal(file.labels, files[0].labels):
            raise ResultsError(f"{folder}: its test items are not those of {folders[0]}")


def _unit(embeddings: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    wide = embeddings.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    return (wide / np.where(length > 0, length, 1.0)).astype(np.float32)
