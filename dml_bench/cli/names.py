"""List and explain what a recipe may name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from dml_bench.cli.app import app, terminal
from dml_bench.errors import DmlBenchError

if TYPE_CHECKING:
    from dml_bench.registry import Entry, Registry

KINDS = ("losses", "datasets", "backbones", "metrics", "samplers", "subsets", "optimizers", "schedules", "selections")

Kind = Annotated[str, typer.Argument(metavar="KIND", help=f"One of {', '.join(KINDS)}.")]


@app.command("list", epilog="Example: dml-bench list losses --json")
def list_names(
    kind: Kind,
    as_json: Annotated[bool, typer.Option("--json", help="Names, summaries and options as JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="As a Markdown table.")] = False,
) -> None:
    """List what a recipe may name."""
    registry = _registry(kind)
    entries = list(registry)
    more = [(f"{family.prefix}*", family.summary) for family in registry.families]
    if as_json:
        rows = [{"name": e.name, "summary": e.summary, "options": [vars(o) for o in e.options]} for e in entries]
        print(json.dumps(rows, indent=1))  # noqa: T201
    elif as_markdown:
        lines = [f"| `{e.name}` | {e.summary} | {_options(e)} |" for e in entries]
        lines += [f"| `{name}` | {summary} | - |" for name, summary in more]
        print("\n".join([f"| {kind} | what | options |\n|---|---|---|", *lines]))  # noqa: T201
    else:
        width = max(len(entry.name) for entry in entries)
        for name, summary in [*((entry.name, entry.summary) for entry in entries), *more]:
            terminal().print(f"{name:{width}}  {summary}", markup=False, highlight=False)
    for reason in registry.broken.values():
        Console(stderr=True).print(f"dml-bench: {reason}", markup=False, highlight=False, soft_wrap=True)


@app.command(epilog="Example: dml-bench info losses softtriple")
def info(kind: Kind, name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Explain one name: formula, options with defaults and ranges, source."""
    from dml_bench.registry import show

    entry = _registry(kind)[name]
    console = terminal()
    console.print(f"{entry.name}\n\n{entry.doc}\n", markup=False, highlight=False, soft_wrap=True)
    if entry.options:
        console.print("Options:")
    for option in entry.options:
        default = "required" if option.default == "required" else f"default {show(option.default)}"
        console.print(f"  {option.name}: {default}; {option.allowed}", markup=False, highlight=False, soft_wrap=True)
    if kind == "losses" and name in _registry(kind):  # what is another library's has no card
        _show_card(console, entry.name)


def _show_card(console: Console, key: str) -> None:
    from dml_bench.testing import verify as verify_one
    from dml_bench.testing.page import details

    card = verify_one(key)
    lines = "\n".join(f"  {line}" for line in details(card))
    console.print(f"\nCard: {card.verdict}\n{lines}", markup=False, highlight=False, soft_wrap=True)


def _registry(kind: str) -> Registry[Any]:
    from dml_bench.evaluation.metrics import METRICS
    from dml_bench.flow import REGISTRIES
    from dml_bench.registry import suggestion

    registries = {**REGISTRIES, "metrics": METRICS}
    if kind not in KINDS:
        raise DmlBenchError(f"no kind named '{kind}'{suggestion(kind, KINDS)}; known: {', '.join(KINDS)}")
    return registries[kind]


def _options(entry: Entry[Any]) -> str:
    from dml_bench.registry import show

    return ", ".join(f"`{o.name}={show(o.default)}`" for o in entry.options) or "-"
