"""Say whether one loss is better than another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dml_bench.cli.app import app, folder_and_name, terminal
from dml_bench.errors import ResultsError

if TYPE_CHECKING:
    from dml_bench.results.record import RunRecord

What = "A folder of the seeds of one recipe, one run's folder, or FOLDER:LOSS or FOLDER:RECIPE_ID."


@app.command(epilog="Example: dml-bench compare runs/quickstart:softtriple runs/quickstart:norm_softmax")
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help=What)],
    second: Annotated[str, typer.Argument(metavar="B", help="Likewise.")],
    metric: Annotated[str, typer.Option(help="What is compared.")] = "recall@1",
) -> None:
    """Compare two losses on the same queries: difference, interval, p-value, and what could have been seen."""
    from dml_bench.reports.comparison import compared

    found = compared(_side(first), _side(second), metric)
    for line in found.lines():
        terminal().print(line, markup=False, highlight=False, soft_wrap=True)


def _side(text: str) -> list[RunRecord]:
    """Return the runs that ``text`` names: all seeds of one recipe."""
    from dml_bench.results.store import read_runs

    folder, wanted = folder_and_name(text)
    runs = [run for run in read_runs([folder]) if wanted in ("", run.loss, run.recipe_id, run.run_id)]
    rows = {run.recipe_id: f"{run.recipe_id} ({run.loss})" for run in runs}
    if len(rows) != 1:
        said = ", ".join(sorted(rows.values())) or "none"
        raise ResultsError(f"{text}: must name the runs of one recipe, as FOLDER:RECIPE_ID; it names {said}")
    return runs
