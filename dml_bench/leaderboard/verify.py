"""What records must show before a table is made of them: one function per check, from a run to what is wrong."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from dml_bench.errors import DmlBenchError, RecipeError, ResultsError
from dml_bench.flow import VOCABULARY
from dml_bench.leaderboard.entries import KEPT, RECORDS
from dml_bench.leaderboard.verify_queries import asked, queries_make_the_metrics
from dml_bench.losses.loss import LOSSES
from dml_bench.recipe.check import Run
from dml_bench.recipe.identity import protocol_id
from dml_bench.recipe.reader import read_recipe
from dml_bench.reports.measured import per_query
from dml_bench.reports.scales import is_spread, scale_of
from dml_bench.reports.summary import REFERENCES, Row, Section, sections
from dml_bench.results.record import Epoch, RunRecord

SEEDS = 3
"""A trained row has at least so many."""
TELLING = 10
"""A column of ``per_query.npz`` with so many different values tells runs apart.

Where two seeds of the leaderboard's rows have other than the commonest value, at most 3 in 100 of map@r agree, and 20
in 100 of first_hit_rank; of recall@1, which has two values, it is 70.
"""
OWN = "dml_bench.losses.named."
"""Where the losses are whose centers lie as ``centers_left`` counts them; a plug-in may keep its own otherwise."""

Check = Callable[[Path, RunRecord], Iterator[str]]


def verify(results: Path, found: Mapping[Path, RunRecord]) -> list[str]:
    """Return what is wrong with a leaderboard, a line each; empty if all is well.

    Args:
        results: the leaderboard's folder.
        found: its runs, as ``entries`` returns them.

    This compares what the files say with each other. That the numbers come from such a training is shown by
    ``reproduce``, which nobody can write into a file.
    """
    problems = [
        f"{folder}: {line}" for folder, run in found.items() for check in CHECKS for line in _safely(check, folder, run)
    ]
    return [*_strays(results.resolve() / RECORDS, found), *problems, *_together(found.values())]


def _strays(records: Path, found: Mapping[Path, RunRecord]) -> Iterator[str]:
    """Find files of no run, which may be weights, embeddings or pictures."""
    for path in sorted(records.rglob("*")):
        if not path.is_dir() and path.parent not in found:
            yield f"{path}: belongs to no run; {RECORDS} holds folders of runs with {', '.join(KEPT)} and nothing else"


def _safely(check: Check, folder: Path, run: RunRecord) -> list[str]:
    try:
        return [*check(folder, run)]
    except DmlBenchError as error:
        return [str(error).removeprefix(f"{folder}: ")]


def only_published_files(folder: Path, run: RunRecord) -> Iterator[str]:
    """Find files that a leaderboard does not hold, such as weights, embeddings and pictures."""
    for path in sorted(folder.iterdir()):
        if path.name not in KEPT or not path.is_file():
            yield f"{path.name} does not belong here; a run has {', '.join(KEPT)}"


def named_by_its_content(folder: Path, run: RunRecord) -> Iterator[str]:
    """Compare the names of folders with the record."""
    if folder.name != run.run_id:
        yield f"is named otherwise than its record says, {run.run_id}"
    if folder.parent.name != run.dataset:
        yield f"lies in {folder.parent.name}, and is of {run.dataset}"


def recipe_makes_the_ids(folder: Path, run: RunRecord) -> Iterator[str]:
    """Derive recipe and protocol id anew from the recipe file and the digest of the data."""
    path = folder / "recipe.yaml"
    if not path.is_file():
        yield "has no recipe.yaml"
        return
    try:
        read: Sequence[Run] = read_recipe(path, VOCABULARY)
    except RecipeError as error:
        yield f"recipe.yaml: {error}"
        return
    if [item.run_id for item in read] != [run.run_id]:
        yield f"recipe.yaml makes {', '.join(item.run_id for item in read)}, and the record is of {run.run_id}"
        return
    recipe = read[0].recipe
    if recipe.document() != dict(run.recipe):
        yield "recipe.yaml and the recipe in record.json differ"
    told = (run.dataset, run.loss, run.backbone)
    if told != (recipe.dataset["name"], read[0].method, recipe.backbone["name"]):
        yield f"the record speaks of {', '.join(told)}, its recipe of other names"
    made = protocol_id(str(run.data.get("digest")), recipe.evaluation.distance, recipe.selection)
    if made != run.protocol_id:
        yield f"protocol id {run.protocol_id} is not that of its data and rules, {made}"


def finished(folder: Path, run: RunRecord) -> Iterator[str]:
    """Find failed runs, and metrics that are missing or out of their range."""
    if run.status != "ok":
        yield f"failed: {run.reason}"
        return
    for name in asked(run):
        if name not in run.metrics:
            yield f"{name} is missing"
    for name, value in run.metrics.items():
        if not is_spread(name) and name not in asked(run):
            yield f"{name} is no metric that the recipe asks for"
        if not math.isfinite(value) or (not is_spread(name) and scale_of(name).bounded and not 0 <= value <= 1):
            yield f"{name} is {value}, which is out of its range"


def curve_is_the_record_s(folder: Path, run: RunRecord) -> Iterator[str]:
    """Compare ``curve.csv`` with the record, and its length with the epochs of the recipe."""
    path = folder / "curve.csv"
    if not path.is_file():
        yield "has no curve.csv"
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(asdict(run.curve[0]) if run.curve else list(Epoch.__dataclass_fields__))
    table.writerows(asdict(epoch).values() for epoch in run.curve)
    if path.read_text(encoding="utf-8") != text.getvalue():
        yield "curve.csv and the curve in record.json differ"
    epochs = (run.recipe.get("training") or {}).get("epochs")
    if run.recipe.get("loss") and isinstance(epochs, int) and len(run.curve) != epochs and not run.selected:
        yield f"the curve has {len(run.curve)} epochs, the recipe {epochs}"


def centers_are_left_for_each_class(folder: Path, run: RunRecord) -> Iterator[str]:
    """Ask for one number per training class, from 1 to the centers per class, where a loss has several of them."""
    loss, left = run.recipe.get("loss") or {}, run.centers_left
    classes = (run.data.get("train") or {}).get("classes", 0)
    most = loss.get("centers_per_class") or run.checks.get("centers", 0) // max(classes, 1)
    own = not loss or LOSSES[loss["name"]].factory.__module__.startswith(OWN)
    if run.status == "ok" and own and bool(left) != (most > 1 and loss.get("members", 1) == 1):
        yield "centers_left is there, and its loss has one center per class" if left else "has no centers_left"
    elif left and len(left) != classes:
        yield f"centers_left has {len(left)} entries, and there are {classes} training classes"
    elif left and not 1 <= min(left) <= max(left) <= (most or max(left)):
        yield f"centers_left goes from {min(left)} to {max(left)}, and must from 1 to {most}, the centers per class"


def chosen_without_the_test(folder: Path, run: RunRecord) -> Iterator[str]:
    """Refuse networks that were chosen by their score on the test classes."""
    if (run.recipe.get("selection") or {}).get("name") == "test_oracle":
        yield "its network was selected on the test classes (test_oracle), which a leaderboard refuses"


def names_no_place_of_one_machine(folder: Path, run: RunRecord) -> Iterator[str]:
    """Find paths in a recipe that are of one machine, so that others cannot run it again."""
    yield from (f"recipe: {name}: {path} is a place of one machine" for name, path in _places(run.recipe))


def _places(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _places(part, f"{name}.{key}".lstrip("."))
    elif isinstance(value, list):
        for part in value:
            yield from _places(part, name)
    elif isinstance(value, str) and (PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()):
        yield name, value


def tells_where_it_ran(folder: Path, run: RunRecord) -> Iterator[str]:
    """Ask for the versions and the hardware."""
    missing = [
        name for name in ("dml_bench", "python", "packages", "processor", "device") if not run.environment.get(name)
    ]
    if missing:
        yield f"the record does not tell its {', '.join(missing)}"


CHECKS: tuple[Check, ...] = (
    *(only_published_files, named_by_its_content, recipe_makes_the_ids, finished, queries_make_the_metrics),
    *(curve_is_the_record_s, centers_are_left_for_each_class, chosen_without_the_test),
    *(names_no_place_of_one_machine, tells_where_it_ran),
)


def _together(runs: Iterable[RunRecord]) -> Iterator[str]:
    """Check what only several runs show: seeds, references, the same queries."""
    try:
        found = sections([*runs])
    except ResultsError as error:
        yield str(error)
        return
    for section in found:
        where = f"{section.dataset}, protocol {section.protocol_id}"
        for name in ("raw_pixels or raw_features", "untrained"):
            if not {row.loss for row in section.rows} & set(name.split(" or ")):
                yield f"{where}: has no row {name}"
        yield from (f"{where}: {line}" for line in _at_odds(section))
        same: dict[str, list[str]] = defaultdict(list)
        for row in section.rows:
            seeds = {run.seed for run in row.runs}
            if row.loss not in REFERENCES and len(seeds) < SEEDS:
                yield f"{where}: {row.loss} ({row.runs[0].recipe_id}) has {len(seeds)} seeds; {SEEDS} are the least"
            read = {run.run_id: _digests(run) for run in row.runs}
            for name, (queries, _) in read.items():
                same[queries].append(name)
            once = {run.seed: read[run.run_id][1] for run in row.runs}
            yield from (f"{where}: {line}" for line in _published_twice(row, once))
        same.pop("", None)
        if len(same) > 1:
            fewest = min(same.values(), key=len)
            yield f"{where}: {', '.join(fewest[:3])} were not asked the same queries as the others"


def _at_odds(section: Section) -> Iterator[str]:
    """Find runs that tell other facts than the others of their row or section."""
    for row in section.rows:
        sizes = {run.costs.get("parameters") for run in row.runs}
        if len(sizes) > 1:
            yield f"{row.loss} ({row.runs[0].recipe_id}): its runs tell of {' and '.join(map(str, sizes))} parameters"
    counts: dict[str, list[str]] = defaultdict(list)
    for run in (run for row in section.rows for run in row.runs):
        counts[json.dumps(run.data, sort_keys=True)].append(run.run_id)
    if len(counts) > 1:
        yield f"{', '.join(min(counts.values(), key=len)[:3])} tell other facts of the data than the others"


def _published_twice(row: Row, values: Mapping[int, str]) -> Iterator[str]:
    """Find seeds of a trained row that are one run: with the same losses, or the same values of every query.

    Losses that are all 0, as where no triplet is left, may be the same; so may values per query that tell little.
    A row whose network does not depend on its seed is refused as well: it is one run, however often it is done.
    """
    if row.is_reference:
        return
    curves, measured = defaultdict(list), defaultdict(list)
    for run in row.runs:
        curves[tuple(epoch.loss for epoch in run.curve)].append(run)
        measured[values[run.seed]].append(run)
    repeated = [("loss curve", runs) for losses, runs in curves.items() if len(runs) > 1 and any(losses)]
    repeated += [
        ("values of every query", runs) for digest, runs in measured.items() if digest and len(runs) > 1 and _tell(runs)
    ]
    for what, runs in repeated:
        seeds = " and ".join(str(run.seed) for run in runs)
        yield f"{row.loss} ({row.runs[0].recipe_id}): seeds {seeds} have the same {what}; they are one run"


def _tell(runs: Sequence[RunRecord]) -> bool:
    parts = [part for name, part in per_query(runs[0]).items() if name not in ("query", "label")]
    return any(len(np.unique(part)) >= TELLING for part in parts)


def _digests(run: RunRecord) -> tuple[str, str]:
    """Return what tells the queries of a run, and their values, from those of others; empty where there are none."""
    try:
        values = per_query(run)
    except ResultsError:  # reported already
        return "", ""
    if not values:
        return "", ""
    queries, found = hashlib.sha256(), hashlib.sha256()
    for name in sorted(values):
        part = values[name]
        (queries if name in ("query", "label") else found).update(np.ascontiguousarray(part, np.float64).tobytes())
    return queries.hexdigest(), found.hexdigest()
