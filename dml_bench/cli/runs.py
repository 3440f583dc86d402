"""Run recipes, check them, and report what was run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from dml_bench.cli import reports
from dml_bench.cli.app import Changes, app, note, terminal
from dml_bench.data.locks import lock
from dml_bench.errors import RecipeError

if TYPE_CHECKING:
    from dml_bench.recipe.check import Run
    from dml_bench.results.record import RunRecord
    from dml_bench.runners.plan import Plan
    from dml_bench.runners.progress import GridProgress
    from dml_bench.runners.trackers import Tracking

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
    device: Annotated[
        str,
        typer.Option(
            "--device", "--devices", help="auto, cpu, cuda or cuda:N; several for several runs: cuda:0*2,cuda:1"
        ),
    ] = "auto",
    data_root: Annotated[
        Path | None,
        typer.Option(help="Folder that holds the data sets.  [default: the recipe's, then $DML_BENCH_DATA]"),
    ] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Runs at once.  [default: by cores]")] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.0, help="What one run may take; then it counts as failed.")
    ] = None,
    retry: Annotated[
        str | None,
        typer.Option(metavar="KIND,...", help="Repeat what failed, or error, diverged, out-of-memory, timed-out only."),
    ] = None,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(metavar="STEPS", min=1, help="Steps between checkpoints.  [default: 2 percent of the time]"),
    ] = None,
    track: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Show runs in tensorboard, mlflow or wandb; repeatable.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Repeat runs that are done already.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    runner: Annotated[Runner, typer.Option(help="Where runs go: this machine, or a Ray or Slurm cluster.")] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Ray: auto or HOST:PORT.  [default: a Ray of this machine's own]"),
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
    from dml_bench.ranks import launched
    from dml_bench.results.outcome import choose_kinds, naming_full_disk
    from dml_bench.runners.elsewhere import elsewhere, planned_device
    from dml_bench.runners.local import default_jobs, run_side_by_side
    from dml_bench.runners.plan import choose_devices, plan, workers
    from dml_bench.runners.progress import GridProgress, describe
    from dml_bench.runners.torchrun import lead
    from dml_bench.runners.trackers import Tracking

    console = terminal()
    source = _source(recipe, data, changes or ())
    grid = plan(source, changes=changes or (), out=out, data_root=data_root)
    before, done = grid.stamps(), grid.done(choose_kinds(retry) if retry else ())
    todo = [item for item in grid.runs if force or item.run_id not in done]
    if dry_run:
        for item in grid.runs:
            state = "would run" if item in todo else f"done ({done[item.run_id].status})"
            note(console, f"{state}: {grid.folder / item.run_id}  {describe(item)}")
        return
    begin = elsewhere(
        runner, device=device, jobs=jobs, address=address, ship_data=ship_data, slurm=slurm or (), timeout=timeout
    )
    devices = [planned_device(grid.runs)] if begin else choose_devices(device)
    places = workers(devices, jobs, default_jobs(todo, devices[0]))
    with naming_full_disk(grid.folder), _stopping_cleanly(console, grid, todo, before):
        for name in dict.fromkeys(places):
            grid.ready(name)
        grid.same_data({} if force else done)
        if isinstance(source, dict):
            _keep(console, source, changes or (), grid, force)
        _say_what_is_skipped(console, grid, done, todo)
        _announce(grid, todo if force else ())
        if todo:
            tracking = Tracking(track or (), grid.folder, partial(note, console))
            with GridProgress(console, len(todo)) as progress:
                show = partial(_show, progress, tracking)
                if launched()[1] > 1:
                    lead(grid, todo, places[0], show, checkpoint_every)
                else:
                    begin = begin or partial(run_side_by_side, devices=places, timeout=timeout)
                    with closing(begin(grid, todo, replaces=before, checkpoint_every=checkpoint_every)) as events:
                        for item, event in events:
                            show(item, event)
        records = grid.records()
        with lock(grid.folder / ".report"):
            reports.write(console, records, grid.folder / "report", extra=reports.galleries(console, records))
    if isinstance(source, dict):
        _judge(console, records)
    if any(record.status == "failed" for record in records):
        raise typer.Exit(1)


@app.command(epilog="Example: dml-bench report runs/quickstart -o report")
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS_DIR...", help="Folders of published runs.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the report.")] = Path("report"),
    formats: Annotated[
        str,
        typer.Option(
            "--format", metavar="LIST", help="Of the comparison: csv, md, latex, html-fragment; html: a page of all."
        ),
    ] = "csv,md",
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE,...", help="Only such runs; repeatable: --where dataset=cub200"),
    ] = None,
    by: Annotated[str, typer.Option(metavar="LIST", help="What names a row.")] = "dataset,loss",
    metrics: Annotated[str | None, typer.Option(metavar="LIST", help="Of the comparison.  [default: all]")] = None,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Compare rows of different protocols side by side, without ranks.")
    ] = False,
    reported: Annotated[bool, typer.Option("--reported", help="Set published figures beside ours.")] = False,
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="Draw, or write tables only.")] = True,
    galleries: Annotated[
        bool, typer.Option("--galleries/--no-galleries", help="Show queries and their neighbors, which takes the data.")
    ] = True,
    data_root: Annotated[
        Path | None,
        typer.Option(help="Folder that holds the data sets.  [default: the recipe's, then $DML_BENCH_DATA]"),
    ] = None,
) -> None:
    """Compare published runs: tables with intervals and ties (CSV, Markdown, LaTeX, HTML), and plots (PNG, SVG).

    With --format html all of it is one page, report.html, that needs no network.
    """
    from dml_bench.reports.where import select
    from dml_bench.results.store import find_runs

    found = find_runs(runs)
    records = list((select(found, where) if where else found).values())
    how: dict[str, Any] = {"formats": _names(formats), "by": _names(by), "metrics": _names(metrics or "")}
    how |= {"extra": reports.galleries(terminal(), records, data_root)} if galleries and pictures else {}
    reports.write(terminal(), records, out, pictures=pictures, reported=reported, mixed=mixed, **how)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


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


def _show(progress: GridProgress, tracking: Tracking, item: Run, event: Mapping[str, Any]) -> None:
    """Pass an event of a run on to whoever watches."""
    progress.show(item, event)
    tracking.show(item, event)


def _announce(grid: Plan, anew: Sequence[Run]) -> None:
    """Write what is planned, for ``dml-bench status``; runs that begin anew go on from no earlier attempt."""
    from dml_bench.results.store import forget
    from dml_bench.results.survey import write_plan
    from dml_bench.runners.progress import describe

    write_plan(grid.folder, grid.runs[0].recipe.name, {item.run_id: describe(item) for item in grid.runs})
    for item in anew:
        forget(grid.folder, item.run_id)


@contextmanager
def _stopping_cleanly(console: Console, grid: Plan, todo: Sequence[Run], before: Mapping[str, int]) -> Iterator[None]:
    """On Ctrl-C, SIGTERM and SIGHUP, give back what the ended workers held, and say how to go on."""
    from dml_bench.results.store import prepare

    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        prepare(grid.folder)
        now = grid.stamps()
        waiting = sum(now[item.run_id] == before[item.run_id] for item in todo)
        with suppress(OSError):  # the terminal may be gone
            console.print(f"Stopped, {waiting} runs to go; the same command (without --force) goes on from here.")
        raise typer.Exit(130 if isinstance(stop, KeyboardInterrupt) else int(stop.code or 0)) from None


def _say_what_is_skipped(console: Console, grid: Plan, done: dict[str, RunRecord], todo: Sequence[Run]) -> None:
    skipped = len(grid.runs) - len(todo)
    failed = sum(record.status == "failed" for record in done.values()) if skipped else 0
    note(console, f"{len(todo)} runs to do in {grid.folder}")
    if skipped:
        of_these = f" ({failed} of them failed)" if failed else ""
        note(console, f"{skipped} runs are done already{of_these} and skipped; --force repeats them")
