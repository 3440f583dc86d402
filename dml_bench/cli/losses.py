"""Check the losses against independent references."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dml_bench.cli.app import app, terminal

losses_app = typer.Typer(help="Check the losses against independent references.", no_args_is_help=True)
app.add_typer(losses_app, name="losses")


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
    print_cards(terminal(), cards)
    if any(card.verdict == "failed" for card in cards):
        raise typer.Exit(1)
