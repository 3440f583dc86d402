"""The command ``dml-bench``: one file per group of commands. What loads torch is imported where it is used."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer
from rich.console import Console

from dml_bench.cli.app import app
from dml_bench.errors import DmlBenchError

# each adds its commands, in the order of the help
# isort: off
from dml_bench.cli import (  # noqa: F401
    runs,
    status,
    tune,
    compare,
    plot,
    reported,
    diff,
    audit,
    evaluate,
    rescore,
    ensemble,
    retrieve,
    export,
    leaderboard,
    names,
    losses,
    data,
    data_cache,
)
# isort: on

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; exit 0 if all is well, 1 if a run failed, 2 on a user's mistake, 128 + a signal."""
    heard: list[int] = []

    def stop(number: int, frame: object) -> None:
        heard.append(number)
        sys.exit(128 + number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number and signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, stop)
    try:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "TORCHELASTIC_RUN_ID" in os.environ:
            from dml_bench.runners.torchrun import together

            together(app)
        else:
            app()
    except SystemExit:
        if heard:
            sys.exit(128 + heard[0])  # Ray makes another code of it
        raise
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
