"""Measure published runs again."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dml_bench.cli.app import app, check_apart, terminal, write_file
from dml_bench.cli.evaluate import DEFAULT, Format, Metrics, metric_names, progress

if TYPE_CHECKING:
    from dml_bench.results.record import RunRecord
    from dml_bench.runners.rescoring import Rescored


@app.command(epilog="Example: dml-bench rescore runs/quickstart --metrics recall@1,recall@100,uniformity")
def rescore(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Folders of published runs.")],
    metrics: Metrics = DEFAULT,
    restarts: Annotated[int | None, typer.Option(min=1, help="K-means restarts.  [default: each run's own]")] = None,
    memory: Annotated[str, typer.Option(help="Working memory, such as 512MB.")] = "1GB",
    output: Annotated[Format, typer.Option("--format", help="What is printed.")] = "table",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="OUT.csv", help="Write every run's values, old and new.")
    ] = None,
) -> None:
    """Measure published runs again from their stored embeddings, without training; they stay as they are."""
    from dml_bench.runners.rescoring import rescore as measure

    begin = time.perf_counter()
    if out:
        check_apart(out)
    with progress() as tell:
        found = measure(runs, metric_names(metrics), restarts=restarts, memory=memory, tell=tell)
    if out:
        write_file(out, _csv(found).encode())
    _print(found, output)
    if output == "table":
        seconds = time.perf_counter() - begin
        terminal().print(f"{len(found)} runs in {seconds:.1f} s", markup=False, highlight=False)
    if any(item.is_lost for item in found):
        raise typer.Exit(1)


def _print(found: Sequence[Rescored], output: Format) -> None:
    from dml_bench.reports.changes import changes_text
    from dml_bench.reports.text import print_table

    if output == "json":
        print(json.dumps({"runs": [_facts(item) for item in found]}, indent=1, allow_nan=False))  # noqa: T201
    elif output == "csv":
        print(_csv(found), end="")  # noqa: T201
    else:
        print_table(terminal(), [item.rescored for item in found])
        for line in changes_text(_pairs(found)):
            terminal().print(line, markup=False, highlight=False, soft_wrap=True)


def _facts(item: Rescored) -> dict[str, Any]:
    run = item.rescored
    facts = {"folder": str(item.folder), "loss": run.loss, "options": dict(run.options), "seed": run.seed}
    values = {"recorded": item.recorded.metrics, "rescored": run.metrics}
    finite = {key: {k: v for k, v in part.items() if math.isfinite(v)} for key, part in values.items()}
    return {**facts, "status": run.status, "reason": run.reason, **finite}


def _pairs(found: Sequence[Rescored]) -> list[tuple[RunRecord, RunRecord]]:
    return [(item.recorded, item.rescored) for item in found]


def _csv(found: Sequence[Rescored]) -> str:
    from dml_bench.reports.changes import changes_table
    from dml_bench.reports.text import to_csv

    return to_csv(changes_table(_pairs(found)))
