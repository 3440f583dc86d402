"""Say whether one loss is better than another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dml_bench.cli.app import app, folder_and_name, note, terminal
from dml_bench.cli.rows import one_row

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
        note(terminal(), line)


def _side(text: str) -> list[RunRecord]:
    """Return the runs that ``text`` names: all seeds of one recipe."""
    from dml_bench.reports.options import options_text
    from dml_bench.results.store import read_runs

    folder, wanted = folder_and_name(text)
    return one_row(text, read_runs([folder]), wanted, lambda run: (run.loss, run.dataset, options_text(run.options)))
