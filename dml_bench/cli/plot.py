"""Draw one picture of published runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dml_bench.cli.app import app, terminal

Kind = Annotated[
    str,
    typer.Argument(
        metavar="KIND",
        help="recall, dots, wins, pareto, training, centers, centers-sweep, sweep, classes, confusion, map, "
        "gallery, scatter, or across several tables critical-difference, subset-sweep.",
    ),
]


@app.command(epilog="Example: dml-bench plot wins runs/quickstart -o wins.svg")
def plot(
    kind: Kind,
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS_DIR...", help="Folders of published runs.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Ends in .png, .svg or .pdf.")],
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE,...", help="Only such runs; repeatable: --where dataset=cub200"),
    ] = None,
    metric: Annotated[str, typer.Option(help="What is shown, and orders the rows; recall@1 if there is none.")] = "",
    loss: Annotated[str, typer.Option(metavar="LOSS", help="Only its rows: a loss or a recipe id.")] = "",
    data_root: Annotated[
        Path | None,
        typer.Option(help="Folder that holds the data sets.  [default: the recipe's, then $DML_BENCH_DATA]"),
    ] = None,
) -> None:
    """Draw one picture of published runs; `report` draws all that apply."""
    from dml_bench.reports.plots import EXTRA
    from dml_bench.reports.plots.chosen import check_kind, chosen, drawn
    from dml_bench.reports.report import publish
    from dml_bench.reports.where import select
    from dml_bench.results.store import find_runs

    check_kind(kind)
    found = find_runs(runs)
    records = list((select(found, where) if where else found).values())
    end = out.suffix.removeprefix(".").lower()
    if kind in EXTRA:
        from dml_bench.retrieval.pictures import one  # torch

        picture = one(kind, chosen(records, end, metric, loss)[0], end, data_root)
    else:
        picture = drawn(kind, records, end, metric, loss)
    terminal().print(str(publish(out, picture, "the picture")), markup=False, highlight=False, soft_wrap=True)
