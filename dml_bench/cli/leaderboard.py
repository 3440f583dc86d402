"""Publish runs as a leaderboard, check it, and run its rows again."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from dml_bench.cli.app import app, terminal
from dml_bench.errors import DmlBenchError

board = typer.Typer(help="Publish runs as a leaderboard, and check it.", no_args_is_help=True)
app.add_typer(board, name="leaderboard")

Results = Annotated[Path, typer.Argument(metavar="RESULTS", help="The leaderboard's folder, which holds records/.")]


@board.command(epilog="Example: dml-bench leaderboard add runs/leaderboard-digits --to results")
def add(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS_DIR...", help="Folders of published runs.")],
    to: Annotated[Path, typer.Option("--to", metavar="RESULTS", help="The leaderboard's folder.")] = Path("results"),
) -> None:
    """Copy records, recipes, curves and results per query of runs to RESULTS/records; no weights, no embeddings."""
    from dml_bench.leaderboard.entries import add as add_runs

    _say(f"{len(add_runs(runs, to))} runs added to {to / 'records'}")


@board.command(epilog="Example: dml-bench leaderboard verify results")
def verify(results: Results = Path("results")) -> None:
    """Check all records of a leaderboard: ids, metrics against the results per query, seeds, references, files.

    Exit code 1 if anything is wrong.
    """
    from dml_bench.leaderboard.entries import entries
    from dml_bench.leaderboard.verify import verify as problems_of

    found = entries(results)
    problems = problems_of(results, found)
    for line in problems:
        _say(line)
    _say(f"{len(found)} runs: {len(problems)} problems" if problems else f"{len(found)} runs: all is well")
    if problems:
        raise typer.Exit(1)


@board.command(epilog="Example: dml-bench leaderboard build results")
def build(results: Results = Path("results")) -> None:
    """Make README.md, leaderboard.csv, leaderboard.html and pictures/ from the records, once all are verified."""
    from dml_bench.leaderboard.build import build as build_pages

    _say(f"{results}: {len(build_pages(results))} files written")


@app.command(epilog="Example: dml-bench reproduce 0123456789ab --seeds 1")
def reproduce(
    row: Annotated[str, typer.Argument(metavar="ROW", help="The row's recipe id, or how it begins.")],
    results: Annotated[Path, typer.Option("--results", help="The leaderboard's folder.")] = Path("results"),
    seeds: Annotated[int | None, typer.Option(min=1, help="Run so many of its seeds.  [default: all]")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the new runs.  [default: runs/reproduce/<time>]")] = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:N; as in the record, to get the same bits")
    ] = "auto",
    data_root: Annotated[
        Path | None, typer.Option(help="Folder that holds the data sets.  [default: $DML_BENCH_DATA]")
    ] = None,
) -> None:
    """Run a row of a leaderboard again, and say whether the numbers are the same.

    Bit for bit on the same hardware with the same versions, else within the interval. Exit code 1 if they differ.
    """
    from dml_bench.leaderboard.entries import entries, row_of
    from dml_bench.leaderboard.reproduce import compare
    from dml_bench.runners.local import run

    published = row_of(results, row)
    chosen = [*published.items()][:seeds]
    if seeds and seeds > len(published):
        raise DmlBenchError(f"--seeds {seeds}: the row has {len(published)}")
    beside, matches = [*entries(results).values()], True
    out = out or Path(f"runs/reproduce/{datetime.now():%Y-%m-%d-%H%M%S}")
    for _, record in chosen:
        if (out / record.run_id).exists():
            raise DmlBenchError(
                f"--out {out}: {record.run_id} is there already, and would not be run; name another folder"
            )
    for folder, record in chosen:
        took = f"{record.seconds.get('total', 0.0):.0f} s"
        _say(f"{record.run_id}: {record.dataset}, {record.loss}, seed {record.seed}; when it was made it took {took}")
        [again] = run(folder / "recipe.yaml", out=out, device=device, data_root=data_root)
        found = compare([*published.values()], beside, record, again)
        matches &= found.matches
        for line in found.lines():
            _say(line)
    if not matches:
        raise typer.Exit(1)


def _say(line: str) -> None:
    terminal().print(line, markup=False, highlight=False, soft_wrap=True)
