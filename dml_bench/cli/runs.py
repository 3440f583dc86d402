"""Run recipes, check them, and report what was run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from dml_bench.cli.app import Changes, app, terminal
from dml_bench.errors import RecipeError

if TYPE_CHECKING:
    from dml_bench.recipe.check import Run
    from dml_bench.results.record import RunRecord
    from dml_bench.runners.elsewhere import Begin
    from dml_bench.runners.plan import Plan

Runner = Literal["local", "ray", "slurm"]


@app.command(epilog="Example: dml-bench run recipes/quickstart.yaml --set training.epochs=3 --out runs/short")
def run(
    recipe: Annotated[
        Path | None, typer.Argument(metavar="RECIPE", help="A recipe, such as recipes/quickstart.yaml, unless --data.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Your own images instead of a recipe: class folders (folder, zip, tar) or a table (CSV)."),
    ] = None,
    changes: Changes = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the runs.  [default: runs/<recipe name>]")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    data_root: Annotated[
        Path | None,
        typer.Option(help="Folder that holds the data sets.  [default: the recipe's, then $DML_BENCH_DATA]"),
    ] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Runs at once.  [default: by cores]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Repeat runs that are done already.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    runner: Annotated[Runner, typer.Option(help="Where runs go: this machine, or a Ray or Slurm cluster.")] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Ray: auto, HOST:PORT or ray://HOST:PORT.  [default: a Ray of this machine's own]"),
    ] = None,
    ship_data: Annotated[
        bool, typer.Option("--ship-data", help="Ray: send the images to nodes that do not have the files.")
    ] = False,
    slurm: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Slurm: repeatable, such as --slurm partition=gpu")
    ] = None,
) -> None:
    """Run a recipe: train its grid, then write the comparison table and plots to DIR/report.

    With --data ./my_images the recipe is chosen from the images and written to DIR/recipe.yaml, ready to edit.
    """
    from dml_bench.runners.elsewhere import elsewhere, planned_device
    from dml_bench.runners.local import default_jobs, run_side_by_side
    from dml_bench.runners.plan import choose_device, plan
    from dml_bench.runners.progress import describe

    console = terminal()
    source = _source(recipe, data, changes or ())
    grid = plan(source, changes=changes or (), out=out, data_root=data_root)
    done = grid.done()
    todo = [item for item in grid.runs if force or item.run_id not in done]
    if dry_run:
        for item in grid.runs:
            state = "would run" if item in todo else f"done ({done[item.run_id].status})"
            console.print(f"{state}: {grid.folder / item.run_id}  {describe(item)}", highlight=False, soft_wrap=True)
        return
    begin = elsewhere(runner, device=device, jobs=jobs, address=address, ship_data=ship_data, slurm=slurm or ())
    where = planned_device(grid.runs) if begin else choose_device(device)
    grid.ready(where)
    grid.same_data({} if force else done)
    if isinstance(source, dict):
        _keep(console, source, changes or (), grid, force)
    _say_what_is_skipped(console, grid, done, todo)
    if todo:
        begin = begin or partial(run_side_by_side, device=where, jobs=jobs or default_jobs(todo, where))
        _run_all(console, grid, todo, begin)
    records = grid.records()
    _report(console, records, grid.folder / "report")
    if isinstance(source, dict):
        _judge(console, records)
    if any(record.status == "failed" for record in records):
        raise typer.Exit(1)


@app.command(epilog="Example: dml-bench report runs/quickstart -o report")
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS_DIR...", help="Folders of published runs.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the report.")] = Path("report"),
) -> None:
    """Compare published runs: tables (CSV, Markdown) and plots (PNG, SVG)."""
    from dml_bench.results.store import read_runs

    _report(terminal(), read_runs(runs), out)


@app.command(epilog="Example: dml-bench check recipes/quickstart.yaml --set loss.scale=16")
def check(recipes: Annotated[list[Path], typer.Argument(metavar="RECIPE...")], changes: Changes = None) -> None:
    """Check recipes without touching data or a device; name every mistake with file and line."""
    from dml_bench.flow import VOCABULARY
    from dml_bench.recipe.reader import read_recipe

    mistakes = []
    for path in recipes:
        try:
            runs = read_recipe(path, VOCABULARY, changes or ())
            terminal().print(f"{path}: ok, {len(runs)} runs", markup=False, highlight=False, soft_wrap=True)
        except RecipeError as error:
            mistakes.append(str(error))
    if mistakes:
        raise RecipeError("\n".join(mistakes))


def _source(recipe: Path | None, data: Path | None, changes: Sequence[str]) -> Path | dict[str, Any]:
    """Return the recipe's file, or the recipe that the user's own images suggest."""
    if recipe is not None and data is not None:
        raise RecipeError(f"give a recipe or --data, not both: {recipe} and --data {data}")
    if recipe is not None:
        return recipe
    if data is None:
        raise RecipeError("give a recipe, such as recipes/quickstart.yaml, or your own images with --data FOLDER")
    from dml_bench.runners.own_data import own_recipe

    return own_recipe(data, changes)


def _keep(console: Console, document: dict[str, Any], changes: Sequence[str], grid: Plan, force: bool) -> None:
    """Write the recipe that was chosen beside the results, and say what it is."""
    from dml_bench.runners.own_data import keep_recipe

    file = keep_recipe(document, changes, grid.folder, force=force)
    recipe = grid.runs[0].recipe
    epochs = recipe.training.epochs if recipe.training else None
    seeds = len({run.recipe.seed for run in grid.runs})
    chosen = f"{recipe.dataset['image_size']} pixels, {epochs} epochs, seeds n={seeds}"
    note = f"Recipe chosen from the data: {file} ({chosen}); edit and run it"
    console.print(note, markup=False, highlight=False, soft_wrap=True)


def _judge(console: Console, records: Sequence[RunRecord]) -> None:
    """Say so if training on the user's own images was no use."""
    from dml_bench.runners.own_data import verdict

    if said := verdict(records):
        console.print(said, markup=False, highlight=False, soft_wrap=True)


def _run_all(console: Console, grid: Plan, todo: Sequence[Run], begin: Begin) -> None:
    from dml_bench.results.store import prepare
    from dml_bench.runners.progress import GridProgress

    finished = 0
    try:
        with GridProgress(console, len(todo)) as progress:
            for item, event in begin(grid, list(todo)):
                progress.show(item, event)
                finished += event["event"] == "done"
    except (KeyboardInterrupt, SystemExit) as stop:
        prepare(grid.folder)  # sweeps up what the ended workers left
        waiting = len(todo) - finished
        console.print(f"Stopped, {waiting} runs to go; the same command (without --force) goes on from here.")
        raise typer.Exit(130 if isinstance(stop, KeyboardInterrupt) else 143) from None


def _say_what_is_skipped(console: Console, grid: Plan, done: dict[str, RunRecord], todo: Sequence[Run]) -> None:
    skipped = len(grid.runs) - len(todo)
    failed = sum(record.status == "failed" for record in done.values()) if skipped else 0
    console.print(f"{len(todo)} runs to do in {grid.folder}", highlight=False, soft_wrap=True)
    if skipped:
        note = f" ({failed} of them failed)" if failed else ""
        console.print(f"{skipped} runs are done already{note} and skipped; --force repeats them", highlight=False)


def _report(console: Console, records: Sequence[RunRecord], folder: Path) -> None:
    from dml_bench.reports.report import write_report
    from dml_bench.reports.text import print_table

    print_table(console, records)
    written = write_report(records, folder)
    console.print(f"Report: {folder} ({len(written)} files)", highlight=False, soft_wrap=True)
