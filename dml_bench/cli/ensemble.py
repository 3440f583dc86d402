"""Put the folds of cross-validations together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dml_bench.cli.app import app, terminal
from dml_bench.cli.evaluate import Format, metric_names

if TYPE_CHECKING:
    from dml_bench.runners.ensembles import Ensemble

HEAD = ("loss", "options", "seed", "folds", "kind", "dim")


@app.command(epilog="Example: dml-bench ensemble runs/reality_check --metrics recall@1,r_precision,map@r")
def ensemble(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Folders of published runs, one per fold.")],
    metrics: Annotated[
        str, typer.Option(metavar="LIST", help="Names with commas; dml-bench list metrics.")
    ] = "recall@1,r_precision,map@r",
    memory: Annotated[str, typer.Option(help="Working memory, such as 512MB.")] = "1GB",
    output: Annotated[Format, typer.Option("--format", help="What is printed.")] = "table",
) -> None:
    """Score the folds of a cross-validation: each network for itself (separate), and all as one (concatenated)."""
    from dml_bench.evaluation.scores import as_csv
    from dml_bench.runners.ensembles import ensembles

    names = metric_names(metrics)
    found = ensembles(runs, names, memory=memory)
    if output == "json":
        print(json.dumps({"ensembles": [_facts(item) for item in found]}, indent=1))  # noqa: T201
    elif output == "csv":
        columns = [*HEAD, *(column for name in names for column in (name, f"{name}_std"))]
        print(as_csv(columns, [row for item in found for row in _rows(item, names)]), end="")  # noqa: T201
    else:
        _print(found, names)


def _facts(item: Ensemble) -> dict[str, object]:
    facts = {"loss": item.members[0].loss, "options": item.options, "seed": item.members[0].seed}
    values = {"separate": item.separate, "spread": item.spread, "concatenated": item.concatenated}
    return {**facts, "folders": [str(folder) for folder in item.folders], "dim": item.dim, **values}


def _rows(item: Ensemble, names: Sequence[str]) -> list[list[object]]:
    from dml_bench.reports.options import options_text

    member = item.members[0]
    head = [member.loss, options_text(item.options), member.seed, len(item.members)]
    apart = [value for name in names for value in (item.separate[name], item.spread[name])]
    joined = [value for name in names for value in (item.concatenated[name], "")]
    return [
        [*head, "separate", member.embedding_dim, *apart],
        [*head, "concatenated", item.dim, *joined],
    ]


def _cell(name: str, value: Any, spread: Any) -> str:
    """Write a value as tables do, and its spread if there is one."""
    from dml_bench.reports.scales import scale_of

    scale, shown = scale_of(name), [value] if spread == "" else [value, spread]
    return " ± ".join(scale.texts(shown, scale.decimals([value])))


def _print(found: Sequence[Ensemble], names: Sequence[str]) -> None:
    from rich import box
    from rich.measure import Measurement
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in (*HEAD, *names):
        table.add_column(name, no_wrap=True)
    for item in found:
        for row in _rows(item, names):
            values, spreads = row[len(HEAD) :: 2], row[len(HEAD) + 1 :: 2]
            table.add_row(*map(str, row[: len(HEAD)]), *map(_cell, names, values, spreads))
    console = terminal()
    table.width = Measurement.get(console, console.options.update(max_width=1000), table).maximum
    console.print(table, crop=False, no_wrap=True, overflow="ignore")
    note = "Shares in percent. Separate: mean ± sample deviation over folds; concatenated: the embeddings side by side."
    terminal().print(note, markup=False, highlight=False, soft_wrap=True)
