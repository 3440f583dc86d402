"""What records must show before a table is made of them: one function per check, from a run to what is wrong."""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from dml_bench.errors import RecipeError, ResultsError
from dml_bench.flow import VOCABULARY
from dml_bench.leaderboard.entries import KEPT
from dml_bench.recipe.check import Run
from dml_bench.recipe.identity import protocol_id
from dml_bench.recipe.reader import read_recipe
from dml_bench.reports.measured import NOT_METRICS, per_query
from dml_bench.reports.scales import is_spread, scale_of
from dml_bench.reports.summary import REFERENCES, sections
from dml_bench.results.record import Epoch, RunRecord

SEEDS = 3
"""A trained row has at least so many."""
CLOSE = 1e-6
"""Values per query are stored in single precision; their mean is the record's to this."""

Check = Callable[[Path, RunRecord], Iterator[str]]


def verify(found: Mapping[Path, RunRecord]) -> list[str]:
    """Return what is wrong with the runs of a leaderboard, a line each; empty if all is well.

    This compares what the files say with each other. That the numbers come from such a training is shown by
    ``reproduce``, which nobody can write into a file.
    """
    problems = [
        f"{folder}: {line}" for folder, run in found.items() for check in CHECKS for line in _safely(check, folder, run)
    ]
    return [*problems, *_together(found.values())]


def _safely(check: Check, folder: Path, run: RunRecord) -> list[str]:
    try:
        return [*check(folder, run)]
    except ResultsError as error:
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
    for name in (run.recipe.get("evaluation") or {}).get("metrics", []):
        if name not in run.metrics:
            yield f"{name} is missing"
    for name, value in run.metrics.items():
        if not math.isfinite(value) or (not is_spread(name) and scale_of(name).bounded and not 0 <= value <= 1):
            yield f"{name} is {value}, which is out of its range"


def queries_make_the_metrics(folder: Path, run: RunRecord) -> Iterator[str]:
    """Compare metrics with the mean of their values per query, and recall@k with the rank of the first hit."""
    values = per_query(run)
    if not values:
        yield "has no per_query.npz"
        return
    if len({len(part) for part in values.values()}) > 1:
        yield "per_query.npz: its columns differ in length"
        return
    if len(values["query"]) != run.data.get("queries", len(values["query"])):
        yield f"per_query.npz has {len(values['query'])} queries, the record {run.data['queries']}"
    for name, part in values.items():
        if name in NOT_METRICS:
            continue
        mean = float(part.astype(np.float64).mean())
        if name in run.metrics and not abs(mean - run.metrics[name]) <= CLOSE:
            yield f"{name} is {run.metrics[name]:.6f} in the record, and {mean:.6f} over its queries"
        if name.startswith("recall@") and "first_hit_rank" in values:
            ranks = values["first_hit_rank"]
            hits = (ranks > 0) & (ranks <= int(name.removeprefix("recall@")))
            if not np.array_equal(hits, part != 0):
                yield f"{name} of {int((hits != (part != 0)).sum())} queries is not what the rank of the first hit says"


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


def chosen_without_the_test(folder: Path, run: RunRecord) -> Iterator[str]:
    """Refuse networks that were chosen by their score on the test classes."""
    if (run.recipe.get("selection") or {}).get("name") == "test_oracle":
        yield "its network was selected on the test classes (test_oracle), which a leaderboard refuses"


def tells_where_it_ran(folder: Path, run: RunRecord) -> Iterator[str]:
    """Ask for the versions and the hardware."""
    missing = [
        name for name in ("dml_bench", "python", "packages", "processor", "device") if not run.environment.get(name)
    ]
    if missing:
        yield f"the record does not tell its {', '.join(missing)}"


CHECKS: tuple[Check, ...] = (
    *(only_published_files, named_by_its_content, recipe_makes_the_ids, finished, queries_make_the_metrics),
    *(curve_is_the_record_s, chosen_without_the_test, tells_where_it_ran),
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
        asked: dict[bytes, list[str]] = defaultdict(list)
        for row in section.rows:
            seeds = {run.seed for run in row.runs}
            if row.loss not in REFERENCES and len(seeds) < SEEDS:
                yield f"{where}: {row.loss} ({row.runs[0].recipe_id}) has {len(seeds)} seeds; {SEEDS} are the least"
            for run in row.runs:
                if values := _queries(run):
                    asked[values].append(run.run_id)
        if len(asked) > 1:
            fewest = min(asked.values(), key=len)
            yield f"{where}: {', '.join(fewest[:3])} were not asked the same queries as the others"


def _queries(run: RunRecord) -> bytes:
    try:
        values = per_query(run)
    except ResultsError:  # reported already
        return b""
    return values["query"].tobytes() + values["label"].tobytes() if values else b""
