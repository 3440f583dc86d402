"""What a leaderboard is made of: the folder of each run, less what is large or not ours to publish."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Iterable
from pathlib import Path

from dml_bench.errors import ResultsError
from dml_bench.results.record import RunRecord
from dml_bench.results.store import find_runs

RECORDS = "records"
"""The folder of ``results`` that holds the runs, ``records/<data set>/<run id>``."""

KEPT = ("record.json", "recipe.yaml", "curve.csv", "per_query.npz")
"""The files of a run that are published: numbers and settings; no weights, embeddings or pictures."""


def entries(results: Path) -> dict[Path, RunRecord]:
    """Return the published runs of a leaderboard by folder.

    Raises:
        ResultsError: if there are none, or a record is broken.
    """
    folder = results / RECORDS
    if not folder.is_dir():
        raise ResultsError(f"{folder}: no such folder; dml-bench leaderboard add RUNS_DIR --to {results} makes it")
    return find_runs([folder])


def add(runs: Iterable[Path], results: Path) -> list[Path]:
    """Copy what is published of runs to a leaderboard, and return the folders that are new.

    Args:
        runs: folders of published runs.
        results: the leaderboard's folder.

    Raises:
        ResultsError: if a run is there already and differs, or a file is missing; then nothing is copied.
    """
    found = {folder: results / RECORDS / record.dataset / folder.name for folder, record in find_runs(runs).items()}
    fresh = {folder: target for folder, target in found.items() if not target.exists()}
    for folder, target in found.items():
        missing = [name for name in KEPT[:2] if not (folder / name).exists()]
        if missing:
            raise ResultsError(f"{folder}: has no {', '.join(missing)}")
        if target.exists() and not filecmp.cmp(folder / KEPT[0], target / KEPT[0], shallow=False):
            raise ResultsError(f"{target}: is there already with another record than {folder}; remove one of them")
    for folder, target in fresh.items():
        partial = target.with_name(f".{target.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name in KEPT:
            if (folder / name).exists():
                shutil.copyfile(folder / name, partial / name)
        partial.rename(target)
    return [*fresh.values()]


def row_of(results: Path, name: str) -> dict[Path, RunRecord]:
    """Return the runs of one row, by folder, ordered by seed.

    Args:
        results: the leaderboard's folder.
        name: the row's recipe id, or the beginning of it.

    Raises:
        ResultsError: if no row is named so, or several are.
    """
    found = entries(results)
    rows = {record.recipe_id: record for record in found.values() if name and record.recipe_id.startswith(name)}
    if len(rows) != 1:
        known = rows or {record.recipe_id: record for record in found.values()}
        said = ", ".join(f"{key} ({record.dataset} {record.loss})" for key, record in [*known.items()][:6])
        more = f", and {len(known) - 6} more" if len(known) > 6 else ""
        problem = "several rows begin so" if rows else "no row has this recipe id"
        raise ResultsError(f"{results}: {name!r}: {problem}; there are {said}{more}")
    chosen = {folder: record for folder, record in found.items() if record.recipe_id in rows}
    return dict(sorted(chosen.items(), key=lambda item: item[1].seed))
