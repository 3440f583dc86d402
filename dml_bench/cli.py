"""The command ``dml-bench``. Everything that loads torch is imported where it is used."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from dml_bench.errors import DmlBenchError, RecipeError

if TYPE_CHECKING:
    from dml_bench.recipe.check import Run
    from dml_bench.registry import Entry, Registry
    from dml_bench.results.record import RunRecord
    from dml_bench.runners.plan import Plan

KINDS = ("losses", "datasets", "backbones", "metrics", "samplers", "optimizers", "schedules")

app = typer.Typer(
    help="Train deep metric learning losses under one protocol and compare them honestly.",
    epilog="Example: dml-bench run recipes/quickstart.yaml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

losses_app = typer.Typer(help="Check the losses against independent references.", no_args_is_help=True)
app.add_typer(losses_app, name="losses")

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, such as recipes/quickstart.yaml.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Overrule the recipe; repeatable: --set training.epochs=3"),
]
Kind = Annotated[str, typer.Argument(metavar="KIND", help=f"One of {', '.join(KINDS)}.")]


def main() -> None:
    """Run the command line; exit 0 if all is well, 1 if a run failed, 2 on a user's mistake."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        app()
    except DmlBenchError as error:
        Console(stderr=True, emoji=False).print(f"dml-bench: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Train deep metric learning losses under one protocol and compare them honestly."""
    if version:
        import dml_bench

        print(f"dml-bench {dml_bench.__version__}")  # noqa: T201
        raise typer.Exit


@app.command(epilog="Example: dml-bench run recipes/quickstart.yaml --set training.epochs=3 --out runs/short")
def run(
    recipe: RecipeFile,
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
) -> None:
    """Run a recipe: train its grid, then write the comparison table and plots to DIR/report."""
    from dml_bench.runners.local import default_jobs
    from dml_bench.runners.plan import choose_device, plan
    from dml_bench.runners.progress import describe

    console = _console()
    grid = plan(recipe, changes=changes or (), out=out, data_root=data_root)
    done = grid.done()
    todo = [item for item in grid.runs if force or item.run_id not in done]
    if dry_run:
        for item in grid.runs:
            state = "would run" if item in todo else f"done ({done[item.run_id].status})"
            console.print(f"{state}: {grid.folder / item.run_id}  {describe(item)}", highlight=False, soft_wrap=True)
        return
    where = choose_device(device)
    grid.ready()
    grid.same_data({} if force else done)
    _say_what_is_skipped(console, grid, done, todo)
    if todo:
        _run_all(console, grid, todo, where, jobs or default_jobs(todo, where))
    records = grid.records()
    _report(console, records, grid.folder / "report")
    if any(record.status == "failed" for record in records):
        raise typer.Exit(1)


@app.command(epilog="Example: dml-bench report runs/quickstart -o report")
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS_DIR...", help="Folders of published runs.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the report.")] = Path("report"),
) -> None:
    """Compare published runs: tables (CSV, Markdown) and plots (PNG, SVG)."""
    from dml_bench.results.store import read_runs

    _report(_console(), read_runs(runs), out)


@app.command(epilog="Example: dml-bench check recipes/quickstart.yaml --set loss.scale=16")
def check(recipes: Annotated[list[Path], typer.Argument(metavar="RECIPE...")], changes: Changes = None) -> None:
    """Check recipes without touching data or a device; name every mistake with file and line."""
    from dml_bench.flow import VOCABULARY
    from dml_bench.recipe.reader import read_recipe

    mistakes = []
    for path in recipes:
        try:
            runs = read_recipe(path, VOCABULARY, changes or ())
            _console().print(f"{path}: ok, {len(runs)} runs", markup=False, highlight=False, soft_wrap=True)
        except RecipeError as error:
            mistakes.append(str(error))
    if mistakes:
        raise RecipeError("\n".join(mistakes))


@app.command("list", epilog="Example: dml-bench list losses --json")
def list_names(
    kind: Kind,
    as_json: Annotated[bool, typer.Option("--json", help="Names, summaries and options as JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="As a Markdown table.")] = False,
) -> None:
    """List what a recipe may name."""
    registry = _registry(kind)
    entries = list(registry)
    more = [(f"{family.prefix}*", family.summary) for family in registry.families]
    if as_json:
        rows = [{"name": e.name, "summary": e.summary, "options": [vars(o) for o in e.options]} for e in entries]
        print(json.dumps(rows, indent=1))  # noqa: T201
    elif as_markdown:
        lines = [f"| `{e.name}` | {e.summary} | {_options(e)} |" for e in entries]
        lines += [f"| `{name}` | {summary} | - |" for name, summary in more]
        print("\n".join([f"| {kind} | what | options |\n|---|---|---|", *lines]))  # noqa: T201
    else:
        width = max(len(entry.name) for entry in entries)
        for name, summary in [*((entry.name, entry.summary) for entry in entries), *more]:
            _console().print(f"{name:{width}}  {summary}", markup=False, highlight=False)
    for reason in registry.broken.values():
        Console(stderr=True).print(f"dml-bench: {reason}", markup=False, highlight=False, soft_wrap=True)


@app.command(epilog="Example: dml-bench info losses softtriple")
def info(kind: Kind, name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Explain one name: formula, options with defaults and ranges, source."""
    from dml_bench.registry import show

    entry = _registry(kind)[name]
    console = _console()
    console.print(f"{entry.name}\n\n{entry.doc}\n", markup=False, highlight=False, soft_wrap=True)
    if entry.options:
        console.print("Options:")
    for option in entry.options:
        default = "required" if option.default == "required" else f"default {show(option.default)}"
        console.print(f"  {option.name}: {default}; {option.allowed}", markup=False, highlight=False, soft_wrap=True)
    if kind == "losses" and name in _registry(kind):  # what is another library's has no card
        _show_card(console, entry.name)


@losses_app.command(epilog="Example: dml-bench losses verify softtriple arcface")
def verify(
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY...]", help="Names of losses.  [default: all]")
    ] = None,
    page: Annotated[Path | None, typer.Option("--markdown", metavar="FILE", help="Write the page to FILE too.")] = None,
) -> None:
    """Compare losses with plain loops, published values and other libraries; exit 1 if one fails."""
    from dml_bench.testing import verify_all
    from dml_bench.testing.page import markdown, print_cards

    cards = verify_all(keys or ())
    if page:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(markdown(cards), encoding="utf-8")
    print_cards(_console(), cards)
    if any(card.verdict == "failed" for card in cards):
        raise typer.Exit(1)


def _show_card(console: Console, key: str) -> None:
    from dml_bench.testing import verify as verify_one
    from dml_bench.testing.page import details

    card = verify_one(key)
    lines = "\n".join(f"  {line}" for line in details(card))
    console.print(f"\nCard: {card.verdict}\n{lines}", markup=False, highlight=False, soft_wrap=True)


def _run_all(console: Console, grid: Plan, todo: Sequence[Run], device: str, jobs: int) -> None:
    from dml_bench.results.store import prepare
    from dml_bench.runners.local import run_side_by_side
    from dml_bench.runners.progress import GridProgress

    finished = 0
    try:
        with GridProgress(console, len(todo)) as progress:
            for item, event in run_side_by_side(grid, list(todo), device, jobs):
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


def _registry(kind: str) -> Registry[Any]:
    from dml_bench.evaluation.metrics import METRICS
    from dml_bench.flow import REGISTRIES
    from dml_bench.registry import suggestion

    registries = {**REGISTRIES, "metrics": METRICS}
    if kind not in KINDS:
        raise DmlBenchError(f"no kind named '{kind}'{suggestion(kind, KINDS)}; known: {', '.join(KINDS)}")
    return registries[kind]


def _options(entry: Entry[Any]) -> str:
    from dml_bench.registry import show

    return ", ".join(f"`{o.name}={show(o.default)}`" for o in entry.options) or "-"


def _console() -> Console:
    return Console(emoji=False)
