"""Say what differs between two runs, recipes or rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dml_bench.cli.app import app, folder_and_name, note, terminal
from dml_bench.cli.rows import one_row

if TYPE_CHECKING:
    from dml_bench.reports.differences import Facts

What = "A run's folder, a recipe, a folder of runs, or FOLDER:LOSS or FOLDER:RECIPE_ID for one row (its seeds)."


@app.command(epilog="Example: dml-bench diff runs/quickstart:04267949c0bd runs/quickstart:7f6f6b0a3b5e")
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help=What)],
    second: Annotated[str, typer.Argument(metavar="B", help="Likewise.")],
) -> None:
    """Print how two runs, recipes or rows differ: settings, data, weights, versions, hardware, ids.

    Defaults are filled in. Exit code 0 whether anything differs or not.
    """
    from dml_bench.reports.differences import GROUPS, compared, differences

    sides = _side(first), _side(second)
    for name, text, side in zip("AB", (first, second), sides, strict=True):
        _say(f"{name}: {text} ({len(side)} run{'s' * (len(side) != 1)})")
    found = differences(*sides)
    width = max((len(item.path) for item in found), default=0)
    for group in GROUPS:
        lines = [item for item in found if item.group == group]
        if lines:
            _say("", group)
        for item in lines:
            _say(f"  {item.path:{width}}  A: {item.first}", f"  {'':{width}}  B: {item.second}")
    known = compared(*sides)
    left_out = [group for group in GROUPS if group not in known and any(group in f for s in sides for f in s)]
    if not found:
        _say("", f"nothing differs in {', '.join(known)}" if left_out else "nothing differs")
    if left_out:
        _say("", f"not compared, as only one side says: {', '.join(left_out)}")


def _side(text: str) -> list[Facts]:
    """Return the facts of every run that ``text`` names."""
    folder, wanted = folder_and_name(text)
    if folder.is_file():
        return _recipe(folder, wanted, text)
    from dml_bench.reports.differences import facts_of
    from dml_bench.reports.options import options_text
    from dml_bench.results.store import read_runs

    runs = read_runs([folder])
    if wanted:
        runs = one_row(text, runs, wanted, lambda run: (run.loss, run.dataset, options_text(run.options)))
    return [facts_of(run) for run in runs]


def _recipe(path: Path, wanted: str, text: str) -> list[Facts]:
    """Read a recipe; here, because what a recipe may name takes seconds to load."""
    from dml_bench.flow import VOCABULARY
    from dml_bench.recipe.reader import read_recipe
    from dml_bench.reports.differences import facts_of_recipe
    from dml_bench.reports.options import options_text

    runs = [run for run in read_recipe(path, VOCABULARY) if run.recipe.loss is not None or wanted]
    if wanted:
        runs = one_row(text, runs, wanted, lambda run: (run.method, options_text(run.options)))
    return [facts_of_recipe(run.recipe.document(), run.recipe_id) for run in runs]


def _say(*lines: str) -> None:
    for line in lines:
        note(terminal(), line)
