"""What differs between runs, recipes or rows: settings, data, weights, versions, hardware."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dml_bench.recipe.identity import APART, LATER
from dml_bench.results.record import RunRecord

Facts = Mapping[str, Mapping[str, Any]]
"""Of one run: group to dotted path to value. A group that nothing is known of is left out."""

GROUPS = ("ids", "settings", "data", "weights", "versions", "hardware", "names")
HARDWARE = ("platform", "processor", "cores", "device")
NOT_SET, SET = "not set", "set"
SHOWN = 5
"""As many values of a side with several runs are shown."""


@dataclass(frozen=True)
class Difference:
    """One path on which two sides differ; the values are text, several of a side joined by `` | ``."""

    group: str
    path: str
    first: str
    second: str


def facts_of(run: RunRecord) -> Facts:
    """Return what a record says of how its numbers came about; not what they are."""
    environment = flatten(run.environment)
    where = {path: value for path, value in environment.items() if path in HARDWARE}
    found = {
        **facts_of_recipe(run.recipe, run.recipe_id),
        "data": flatten(run.data),
        "weights": {"sha256": run.weights or "random"},
        "versions": {path: value for path, value in environment.items() if path not in HARDWARE},
        "hardware": where,
    }
    found["ids"] = {"recipe_id": run.recipe_id, "protocol_id": run.protocol_id or "none"}
    return {group: values for group, values in found.items() if values}


def facts_of_recipe(document: Mapping[str, Any], recipe_id: str) -> dict[str, Mapping[str, Any]]:
    """Return what a checked recipe with its defaults filled in says."""
    settings = flatten(document)
    names = [name for name in APART if name != "seed"]
    return {
        "ids": {"recipe_id": recipe_id},
        "settings": {path: value for path, value in settings.items() if path not in names},
        "names": {name: settings[name] for name in names if name in settings},
    }


def differences(first: Sequence[Facts], second: Sequence[Facts]) -> list[Difference]:
    """Return the paths on which two sides differ, group by group; a group that only one side knows is left out.

    A side of several runs, such as a row with its seeds, has several values on a path. Settings that older records do
    not have are at the defaults that leave a recipe's id as it was.
    """
    return [
        Difference(group, path, _text(mine), _text(theirs))
        for group in compared(first, second)
        for path in _paths(group, (*first, *second))
        if (mine := _values(first, group, path)) != (theirs := _values(second, group, path)) and mine and theirs
    ]


def compared(first: Sequence[Facts], second: Sequence[Facts]) -> list[str]:
    """Return the groups that both sides know something of."""
    return [group for group in GROUPS if all(any(group in facts for facts in side) for side in (first, second))]


def flatten(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return ``{"a.b": value}`` for nested mappings; an empty one is a value, and so is a list."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{above}{key}"
        found |= flatten(value, f"{path}.") if isinstance(value, Mapping) and value else {path: value}
    return found


DEFAULTS = {".".join(path): default for path, default in LATER.items()} | flatten(
    {".".join(path): default for path, default in LATER.items() if isinstance(default, Mapping)}
)


def _paths(group: str, sides: Iterable[Facts]) -> Iterator[str]:
    yield from dict.fromkeys(path for facts in sides for path in facts.get(group, {}))


def _values(side: Sequence[Facts], group: str, path: str) -> list[str]:
    """Return the distinct values of a side, as text; none of runs in which a part that the path lies in is null."""
    missing = DEFAULTS.get(path, NOT_SET) if group == "settings" else NOT_SET
    known = []
    for values in (facts[group] for facts in side if group in facts):
        if path not in values and any(name.startswith(f"{path}.") for name in values):
            known.append(SET)
        elif not any(above in values for above in _above(path)):
            known.append(values.get(path, missing))
    return sorted({_value(value) for value in known})


def _above(path: str) -> list[str]:
    """Return the parts that a path lies in: ``a`` and ``a.b`` for ``a.b.c``."""
    parts = path.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _value(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _text(values: Sequence[str]) -> str:
    more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    return " | ".join(" ".join(value.split()) for value in values[:SHOWN]) + more
