"""Search for images with the network of a published run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dml_bench.cli.app import app, check_apart, folder_and_name, terminal, write_file
from dml_bench.errors import DmlBenchError

if TYPE_CHECKING:
    from dml_bench.reports.answers import Gallery
    from dml_bench.retrieval.search import Found

WIDE = 1000
"""Columns where nobody sees them: nothing is cut off in a file."""

KINDS = (".png", ".svg", ".pdf", ".html")

Which = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's folder, or FOLDER:NAME with a loss, recipe's id or run's id.")
]
Root = Annotated[
    Path | None, typer.Option(help="Folder that holds the data sets.  [default: the recipe's, then $DML_BENCH_DATA]")
]


@app.command(epilog="Example: dml-bench retrieve runs/mine:RUN_ID --query shoe.jpg --gallery photos/ -o found.html")
def retrieve(
    run: Which,
    query: Annotated[list[Path], typer.Option(metavar="IMAGE", help="An image to search for; repeatable.")],
    k: Annotated[int, typer.Option("-k", "--neighbors", help="How many are shown.")] = 8,
    gallery: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Images to search: folder, zip or tar.  [default: the run's test images]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Picture (.png, .svg, .pdf) or page (.html).")
    ] = None,
    data_root: Root = None,
) -> None:
    """Show what a published run's network finds for images of one's own, most similar first.

    Images are prepared as the run's test images were. In a folder of images, the folder that one lies in is its class.
    """
    from dml_bench.retrieval.published import find_one, open_run
    from dml_bench.retrieval.search import (
        as_gallery,
        folder_library,
        preparation_of,
        read_queries,
        search,
        test_library,
    )

    if out:
        _check_out(out)
    opened = open_run(find_one(*folder_and_name(run)))
    images = read_queries(opened, query)  # before the gallery, which may take a while
    library = folder_library(opened, gallery) if gallery else test_library(opened, data_root)
    found = search(opened, library, query, images, k)
    _say(f"{opened.record.run_id} ({opened.record.loss}), {len(library.files)} images: {library.name}")
    _say(f"Each image: {preparation_of(opened).said}")
    _print(found, "distance" if opened.recipe.evaluation.distance == "euclidean" else "similarity")
    if out:
        write_file(out, _content(as_gallery(opened, library, found), out.suffix.lower()))
        _say(f"Written: {out}")


def _content(gallery: Gallery, suffix: str) -> bytes:
    from dml_bench.reports.plots.gallery import drawn_gallery
    from dml_bench.retrieval.page import to_page

    return to_page(gallery).encode() if suffix == ".html" else drawn_gallery(gallery, [suffix[1:]])[suffix[1:]]


def _check_out(out: Path) -> None:
    if out.suffix.lower() not in KINDS:
        raise DmlBenchError(f"-o {out}: must end in {', '.join(KINDS)}")
    check_apart(out)


def _print(found: Sequence[Found], value: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from dml_bench.retrieval.search import printable

    console = terminal()
    if not console.is_terminal:
        console.width = WIDE
    for item in found:
        _say(f"{printable(str(item.query))}:")
        table = Table("rank", box=None, pad_edge=False)
        table.add_column("file", overflow="fold")
        table.add_column("class", overflow="fold")
        table.add_column(value, justify="right")
        for hit in item.hits:
            table.add_row(str(hit.rank), Text(hit.file), Text(hit.class_name or "-"), f"{hit.value:.4f}")
        console.print(table)


def _say(line: str) -> None:
    terminal().print(line, markup=False, highlight=False, soft_wrap=True)
