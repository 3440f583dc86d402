"""Find, fetch and look at data sets."""

from __future__ import annotations

import os
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dml_bench.cli.app import app, terminal
from dml_bench.errors import DataError, DmlBenchError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

data_app = typer.Typer(help="Find, fetch and look at data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A data set, such as cub200.")]
Root = Annotated[Path | None, typer.Option("--data-root", help="Folder of the data sets.  [default: $DML_BENCH_DATA]")]
Options = Annotated[
    list[str] | None, typer.Option("--set", metavar="OPTION=VALUE", help="Repeatable: --set partial=true")
]


@data_app.command("list", epilog="Example: dml-bench data list")
def list_data(data_root: Root = None) -> None:
    """List the data sets, and which are here."""
    from dml_bench.data.catalog import LISTINGS
    from dml_bench.data.dataset import DATASETS

    for entry in DATASETS:
        state = ""
        if entry.name in LISTINGS and "path" not in {option.name for option in entry.options}:
            state = _state(entry.name, _root(data_root))
        _say(terminal(), f"{entry.name:14} {state:9} {entry.summary}")


@data_app.command("info", epilog="Example: dml-bench data info cub200")
def info_data(name: Name) -> None:
    """Say what a data set is, where it is looked for, and where it is fetched from."""
    from dml_bench.cli.names import info
    from dml_bench.data.downloads import BY_HAND, DOWNLOADS

    info("datasets", name)
    console = terminal()
    for download in DOWNLOADS.get(name, ()):
        size = f", {download.size / 1e6:,.0f} MB" if download.size else ""
        _say(console, f"Download: {download.name}{size}\n" + "\n".join(f"  {url}" for url in download.urls))
    if name in BY_HAND:
        what, page = BY_HAND[name]
        _say(console, f"By hand: {what} from {page}")


@data_app.command("fetch", epilog="Example: dml-bench data fetch fashion_mnist --data-root data")
def fetch_data(name: Name, data_root: Root = None) -> None:
    """Download a data set into its folder below the data root; a broken download is resumed."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from dml_bench.data.downloads import BY_HAND, DOWNLOADS
    from dml_bench.data.fetch import fetch

    root = _root(data_root)
    if root is None:
        raise DataError("name the folder to download to by --data-root or by the environment variable DML_BENCH_DATA")
    if name in BY_HAND:
        what, page = BY_HAND[name]
        raise DataError(
            f"{name}: has no link to fetch by; get {what} from {page} by hand, and put it into {root / name}"
        )
    if name not in DOWNLOADS:
        raise DataError(f"{name}: no download is known; there are: {', '.join(DOWNLOADS)}")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal(), transient=True) as progress:
        for download in DOWNLOADS[name]:
            task = progress.add_task(download.name, total=download.size)
            path = fetch(download, root / name, partial(_show, progress, task))
            progress.console.print(f"{path}: ok", markup=False, highlight=False, soft_wrap=True)


@data_app.command("verify", epilog="Example: dml-bench data verify cub200 --set partial=true")
def verify_data(name: Name, options: Options = None, data_root: Root = None) -> None:
    """Read every file of a data set, and name those that are damaged, missing or surplus."""
    from dml_bench.data.inspect import faults

    found = 0
    for fault in faults(name, _root(data_root), _options(name, options)):
        found += 1
        _say(terminal(), fault)
    if found:
        raise typer.Exit(1)
    _say(terminal(), f"{name}: ok")


@data_app.command("stats", epilog="Example: dml-bench data stats grocery_store -o sheet.png")
def stats_data(
    name: Name,
    options: Options = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Picture with images of some classes.")] = None,
    data_root: Root = None,
) -> None:
    """Count images and classes, measure the images, and make a contact sheet."""
    from rich.table import Table

    from dml_bench.data import inspect
    from dml_bench.data.catalog import LISTINGS
    from dml_bench.data.dataset import DATASETS

    console, root, chosen = terminal(), _root(data_root), _options(name, options)
    table = Table("part", "images", "classes", "fewest a class", "median", "most", title=name)
    if name in LISTINGS:
        listing = LISTINGS.build(name, root, **chosen)
        rows = inspect.part_sizes(listing)
        widths, heights = inspect.image_sizes(listing)
        note = f"width {widths[0]:.0f} to {widths[2]:.0f} pixels, median {widths[1]:.0f}; "
        note += f"height {heights[0]:.0f} to {heights[2]:.0f}, median {heights[1]:.0f}; "
        note += f"{len(listing.source.strays)} stray files passed over"
        pictures = inspect.some_photos(listing)
    else:
        split = DATASETS.build(name, root, **chosen)
        shape = split.train.image_shape
        rows = inspect.set_sizes(split)
        note = f"images of {' x '.join(map(str, shape))}" if len(shape) > 1 else f"{shape[0]} features an item"
        pictures = inspect.some_images(split.train) if len(shape) > 1 else []
    for row in rows:
        table.add_row(*(f"{value:,g}" if isinstance(value, int | float) else value for value in row))
    console.print(table)
    _say(console, note)
    if out is not None and not pictures:
        raise DataError(f"--out {out}: {name} has features and no images to make a contact sheet of")
    if out is not None:
        inspect.contact_sheet(pictures).save(out, format="PNG")
        _say(console, f"Contact sheet: {out}")


@data_app.command("prepare", epilog="Example: dml-bench data prepare caltech101 --set partial=true --set image_size=64")
def prepare_data(name: Name, options: Options = None, data_root: Root = None) -> None:
    """Decode a data set into the cache, so that the first run need not."""
    from dml_bench.data.cache import cache_folder
    from dml_bench.data.dataset import DATASETS

    split = DATASETS.build(name, _root(data_root), **_options(name, options))
    images = len(split.train) + len(split.test)
    size = images * prod(split.train.image_shape) * split.train.images.dtype.itemsize
    pictures = len(split.train.image_shape) > 1
    where = f"images, {size / 1e6:,.1f} MB decoded, in {cache_folder()}" if pictures else "items; nothing to decode"
    _say(terminal(), f"{name}: {images:,} {where}")
    _say(terminal(), f"digest {split.digest}")


def _show(progress: Progress, task: TaskID, name: str, have: int, whole: int | None) -> None:
    progress.update(task, completed=have, total=whole)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _root(given: Path | None) -> Path | None:
    named = os.environ.get("DML_BENCH_DATA")
    return given or (Path(named) if named else None)


def _state(name: str, root: Path | None) -> str:
    """Say whether a data set is there whole, in part, or not."""
    from dml_bench.data.catalog import LISTINGS

    for options, state in (({}, "here"), ({"partial": True}, "partial")):
        try:
            LISTINGS.build(name, root, **options)
            return state
        except DmlBenchError:
            continue
    return "-"


def _options(name: str, given: list[str] | None) -> dict[str, Any]:
    """Turn ``image_size=64`` into a number, ``partial=true`` into a truth value, and leave other texts."""
    words = {"true": True, "false": False, "null": None}
    options: dict[str, Any] = {}
    for item in given or ():
        key, sign, value = item.partition("=")
        if not sign:
            raise DmlBenchError(f"--set {item}: must be OPTION=VALUE")
        options[key] = words[value] if value in words else int(value) if value.isdecimal() else value
    return options
