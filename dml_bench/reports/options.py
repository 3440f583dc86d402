"""What sets a recipe apart from others of its loss, as tables say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dml_bench.results.record import RunRecord

_UNKNOWN = object()


def options_text(options: Mapping[str, Any]) -> str:
    """Write options as people do: ``scale=30, margins=[0.1, 0.2]``."""
    return ", ".join(f"{name}={_value_text(value)}" for name, value in options.items())


def option_names(runs: Sequence[RunRecord]) -> list[str]:
    """Return the options that any run names, in the order of the run that names most."""
    ordered = sorted(runs, key=lambda run: (-len(run.options), run.recipe_id))
    return list(dict.fromkeys(name for run in ordered for name in run.options))


def known_options(run: RunRecord, names: Sequence[str]) -> dict[str, Any]:
    """Return the options a run names, and the others of ``names`` as its recipe has them, defaults included."""
    found = {}
    for name in names:
        value = run.options[name] if name in run.options else _of_recipe(run.recipe, name)
        if value is not _UNKNOWN:
            found[name] = value
    return found


def _of_recipe(recipe: Mapping[str, Any], name: str) -> Any:
    """Look an option of the loss up, or a dotted path of the recipe."""
    loss = recipe.get("loss")
    if isinstance(loss, Mapping) and name in loss:
        return loss[name]
    value: Any = recipe
    for part in name.split("."):
        value = value.get(part, _UNKNOWN) if isinstance(value, Mapping) else _UNKNOWN
    return value


def _value_text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_value_text(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value_text, value)) + "]"
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)
