"""The application that the commands join, and what they share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dml_bench.errors import DataError, ResultsError
from dml_bench.reports.markdown import printable

app = typer.Typer(
    help="Train deep metric learning losses under one protocol and compare them honestly.",
    epilog="Example: dml-bench run recipes/quickstart.yaml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Overrule the recipe; repeatable: --set training.epochs=3"),
]


def folder_and_name(text: str) -> tuple[Path, str]:
    """Split ``FOLDER:NAME``; a path that exists is a folder without a name."""
    folder, colon, name = text.rpartition(":")
    return (Path(text), "") if Path(text).exists() or not colon else (Path(folder), name)


def terminal() -> Console:
    """Return where a command prints."""
    return Console(emoji=False)


def note(console: Console, line: str) -> None:
    """Print a line as it is, however long; control characters, which a terminal would obey, are written out."""
    console.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def check_apart(out: Path) -> None:
    """Refuse to write into a published run."""
    for folder in out.resolve().parents:
        if (folder / "record.json").exists():
            raise ResultsError(f"{out}: lies in the published run {folder}, which is never edited; choose another file")


def write_file(out: Path, content: bytes) -> None:
    """Write what a command was asked for, and make the folder for it.

    Raises:
        DataError: if it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(content)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror}") from None
