"""Look at the cache of decoded images, and clear it."""

from __future__ import annotations

import datetime
from typing import Annotated

import typer

from dml_bench.cli.app import terminal
from dml_bench.cli.data import data_app

cache_app = typer.Typer(help="Look at the cache of decoded images, and clear it.", no_args_is_help=True)
data_app.add_typer(cache_app, name="cache")


@cache_app.command("list", epilog="Example: dml-bench data cache list --check")
def list_entries(
    check: Annotated[bool, typer.Option("--check", help="Read every byte and name what is damaged.")] = False,
) -> None:
    """List the entries of the cache with their sizes, the largest first."""
    from dml_bench.data.cache_entries import cache_list
    from dml_bench.errors import DataError

    entries = cache_list()
    damaged = []
    for entry in entries:
        when = datetime.datetime.fromtimestamp(entry.changed).strftime("%Y-%m-%d %H:%M")
        what = str(entry.key.get("dataset", "left over")) + "".join(
            f", {name} {entry.key[name]}" for name in ("transform", "short side") if name in entry.key
        )
        bad = check and not entry.intact
        damaged += [entry.name] * bad
        line = f"{entry.name}  {entry.size / 1e6:10.1f} MB  {when}  {what}{'  DAMAGED' if bad else ''}"
        terminal().print(line, markup=False, highlight=False, soft_wrap=True)
    total = sum(entry.size for entry in entries) / 1e6
    terminal().print(f"{len(entries)} entries, {total:.1f} MB", markup=False, highlight=False)
    if damaged:
        raise DataError(f"{len(damaged)} entries are damaged or left over; dml-bench data cache clear NAME removes one")


@cache_app.command(epilog="Example: dml-bench data cache clear")
def clear(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Entries.  [default: all]")] = None,
) -> None:
    """Remove entries; a run that needs one builds it again."""
    from dml_bench.data.cache_entries import cache_clear, cache_list
    from dml_bench.errors import DataError

    unknown = set(names or ()) - {entry.name for entry in cache_list()}
    if unknown:
        raise DataError(f"no cache entry named {', '.join(sorted(unknown))}; see dml-bench data cache list")
    terminal().print(f"{cache_clear(set(names) if names else None) / 1e6:.1f} MB freed", markup=False, highlight=False)
