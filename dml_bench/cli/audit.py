"""Ask of published runs what a sceptic would."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dml_bench.cli.app import app, note, terminal
from dml_bench.errors import DmlBenchError

if TYPE_CHECKING:
    from dml_bench.data.dataset import Split
    from dml_bench.reports.audit import DataNow, Finding
    from dml_bench.results.record import RunRecord


class Format(str, Enum):
    """How findings are printed."""

    text = "text"
    json = "json"


@app.command(epilog="Example: dml-bench audit runs/quickstart --strict")
def audit(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS_DIR...", help="Folders of published runs.")],
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if there is a warning or an error.")] = False,
    form: Annotated[Format, typer.Option("--format", help="How findings are printed.")] = Format.text,
    look: Annotated[
        bool, typer.Option("--data/--no-data", help="Look at the data: its digest, near-duplicates.")
    ] = True,
    data_root: Annotated[
        Path | None,
        typer.Option(help="Folder that holds the data sets.  [default: the recipe's, then $DML_BENCH_DATA]"),
    ] = None,
) -> None:
    """Check published runs for what makes a comparison unfair or unsure.

    Selection on test classes, unequal budgets, dimensions, backbones or image sizes, few seeds, failed or missing runs,
    centers that never moved, k-means that did not converge, partial or changed data, near-duplicates of test images in
    the training part, and losses that still fell.
    """
    from dml_bench.reports.audit import audit as audit_records
    from dml_bench.results.store import find_runs

    records = list(find_runs(runs).values())
    findings = audit_records(records, (lambda run: _look(run, data_root)) if look else None)
    findings += _unfinished(runs)
    if form is Format.json:
        print(json.dumps({"runs": len(records), "findings": [vars(f) for f in findings]}, indent=1))  # noqa: T201
    else:
        _print(findings, len(records))
    if strict and any(finding.severity != "note" for finding in findings):
        raise typer.Exit(1)


def _look(run: RunRecord, data_root: Path | None) -> DataNow:
    """Load the data of a run as it is now; here, because loading it takes torch."""
    from pydantic import ValidationError

    from dml_bench.data.duplicates import near_duplicates
    from dml_bench.recipe.schema import Recipe
    from dml_bench.reports.audit import DataNow
    from dml_bench.splits import load_split

    try:
        recipe = Recipe.model_validate(dict(run.recipe))
        root = str(data_root) if data_root else recipe.data_root
        # Nothing is held out: what training classes a fold leaves out is the data's affair as well.
        split = load_split(recipe.model_copy(update={"data_root": root, "selection": {"name": "last"}}))
    except (DmlBenchError, ValidationError) as error:
        return DataNow(reason=str(error).splitlines()[0])
    if len(split.train.image_shape) == 1:
        return DataNow(split.digest, test=len(split.test))
    pairs = near_duplicates(split.train.images, split.test.images)
    example = _words(split, pairs[0]) if pairs else ""
    return DataNow(split.digest, "", len(split.test), len({pair.test for pair in pairs}), example)


def _words(split: Split, pair: Any) -> str:
    names = [part.class_names[part.labels[at]] for part, at in ((split.train, pair.train), (split.test, pair.test))]
    where = f"training image {pair.train} ('{names[0]}') and test image {pair.test} ('{names[1]}')"
    return f"{where}: {pair.bits} of 64 bits differ, correlation {pair.likeness:.3f}"


def _unfinished(folders: Sequence[Path]) -> list[Finding]:
    """Name the runs that were begun and are not published."""
    from dml_bench.reports.audit import Finding

    begun = sorted(path for folder in folders for path in folder.rglob(".work-*") if path.is_dir())
    return [Finding("note", "unfinished", str(path), "a run that was begun and is not published") for path in begun]


def _print(findings: Sequence[Finding], runs: int) -> None:
    for finding in findings:
        _say(f"{finding.severity:7}  {finding.check:16}  {finding.where}: {finding.message}")
    counts = Counter(finding.severity for finding in findings)
    parts = [f"{counts[kind]} {kind}{'s' * (counts[kind] != 1)}" for kind in ("error", "warning", "note")]
    _say(f"{runs} runs: {', '.join(parts)}")


def _say(line: str) -> None:
    note(terminal(), " ".join(line.split("\n")))
