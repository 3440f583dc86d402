"""Browse published figures."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from dml_bench.cli.app import app, terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dml_bench.reports.ledger import Figure

SHOWN = ("method", "loss", "backbone", "dim", "batch", "crop", "selection", "metric", "value", "source")
"""The columns of the table; CSV has all."""


class Format(str, Enum):
    """How figures are printed."""

    table = "table"
    csv = "csv"
    md = "md"


@app.command(epilog="Example: dml-bench reported cub200 --loss softtriple --metric recall@1")
def reported(
    dataset: Annotated[
        str | None, typer.Argument(metavar="[DATASET]", help="A data set.  [default: list the data sets]")
    ] = None,
    loss: Annotated[str | None, typer.Option(help="A registry key, such as softtriple.")] = None,
    method: Annotated[str | None, typer.Option(help="A part of the published name.")] = None,
    metric: Annotated[str | None, typer.Option(help="Such as recall@1.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Such as bn_inception.")] = None,
    dim: Annotated[str | None, typer.Option(help="Dimensions of an embedding.")] = None,
    form: Annotated[Format, typer.Option("--format", help="The table is for reading, CSV has every column.")] = (
        Format.table
    ),
) -> None:
    """Browse what papers and repositories report, in percent, each figure with its source."""
    from dml_bench.evaluation.scores import as_csv
    from dml_bench.reports.ledger import COLUMNS, browse, datasets
    from dml_bench.reports.markdown import markdown_table

    if dataset is None:
        for name, count in datasets().items():
            terminal().print(f"{count:5}  {name}", markup=False, highlight=False, soft_wrap=True)
        return
    found = browse(dataset, method, loss=loss, metric=metric, backbone=backbone, dim=dim)
    if form is Format.csv:
        yes = {True: "yes", False: "no"}
        rows = [[yes.get(value, value) for value in vars(figure).values()] for figure in found]
        print(as_csv(COLUMNS, rows), end="")  # noqa: T201
    elif form is Format.md:
        print(markdown_table(SHOWN, _cells(found), ("dim", "batch", "crop", "value")), end="")  # noqa: T201
    else:
        _print(found)


def _cells(found: Sequence[Figure]) -> list[list[str]]:
    return [[getattr(figure, name) for name in SHOWN] for figure in found]


def _print(found: Sequence[Figure]) -> None:
    """Print aligned columns, and the sources below, each once with a number."""
    sources = list(dict.fromkeys(figure.source for figure in found))
    places = {source: f"[{number}]" for number, source in enumerate(sources, 1)}
    rows = [SHOWN, *([*cells[:-1], places[cells[-1]]] for cells in _cells(found))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        _say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    _say(f"\n{len(found)} figures, in percent; what a source does not state is unknown.")
    for source, place in places.items():
        _say(f"{place} {source}")


def _say(line: str) -> None:
    terminal().print(line, markup=False, highlight=False, soft_wrap=True)
