"""Which runs a report is about: conditions such as ``loss=arcface,softtriple`` and ``training.epochs!=5``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dml_bench.errors import DmlBenchError, ResultsError
from dml_bench.registry import show, suggestion
from dml_bench.results.record import RunRecord

FIELDS = {
    **{name: name for name in ("dataset", "loss", "backbone", "embedding_dim", "seed", "status")},
    "recipe": "recipe_name",
    **{name: name for name in ("recipe_id", "protocol_id")},
}
"""Names in a condition to attributes of a record; options and dotted paths of the recipe come on top."""
SHOWN = 12
"""Values of a field that a message lists."""


@dataclass(frozen=True)
class Condition:
    """A field, the values that it may have, or may not have if ``negated``, and the ``text`` that said so."""

    field: str
    values: tuple[str, ...]
    negated: bool
    text: str

    def holds(self, known: Mapping[str, Any]) -> bool:
        """Tell whether it holds for the fields of a run; a run without the field has none of the values."""
        found = self.field in known and any(_equal(text, known[self.field]) for text in self.values)
        return found != self.negated


@dataclass(frozen=True)
class Where:
    """Conditions that must all hold."""

    conditions: tuple[Condition, ...]

    def keeps(self, record: RunRecord) -> bool:
        """Tell whether all conditions hold for a run."""
        known = fields_of(record)
        return all(condition.holds(known) for condition in self.conditions)


def parse_where(conditions: Sequence[str]) -> Where:
    """Read conditions: ``field=value``, ``field!=value``, or several values with commas, any of which will do.

    Raises:
        DmlBenchError: naming a condition that is not written so.
    """
    return Where(tuple(map(_condition, conditions)))


def select(records: Mapping[Path, RunRecord], conditions: Sequence[str]) -> dict[Path, RunRecord]:
    """Keep the runs for which all conditions hold.

    Raises:
        DmlBenchError: when a condition is misspelt, or names a field that none of the runs has.
        ResultsError: when no run is left; it says which values the fields have.
    """
    where = parse_where(conditions)
    known = {path: fields_of(record) for path, record in records.items()}
    if known:
        _check_fields(where, [*known.values()])
    kept = {path: records[path] for path, of in known.items() if all(c.holds(of) for c in where.conditions)}
    if not kept:
        raise ResultsError(_nothing_left(where, [*known.values()]))
    return kept


def fields_of(record: RunRecord) -> dict[str, Any]:
    """Return what conditions may ask of a run: options of its loss, dotted paths of its recipe, and ``FIELDS``.

    An option that is at its default is known as well, from the recipe. A part of a recipe that has a name, such as a
    sampler, stands for its name.
    """
    loss = record.recipe.get("loss")
    options = {key: value for key, value in loss.items() if key != "name"} if isinstance(loss, Mapping) else {}
    own = {field: getattr(record, name) for field, name in FIELDS.items()}
    return {**dict(flat(options)), **dict(flat(record.recipe)), **dict(flat(record.options)), **own}


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Return what a nested value holds by dotted path; a part that has a name stands for it as well."""
    if isinstance(value, Mapping):
        if path and "name" in value:
            yield path, value["name"]
        for key, item in value.items():
            yield from flat(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from flat(item, f"{path}[{i}]")
    else:
        yield path, value


def _condition(text: str) -> Condition:
    field, sign, value = text.partition("=")
    negated, field = field.endswith("!"), field.removesuffix("!").strip()
    values = [part.strip() for part in value.split(",")]
    if not sign or not field or not all(values) or value.startswith("="):
        raise DmlBenchError(
            f"condition '{text}': write it as field=value or field!=value, or with several values as field=this,that"
        )
    # A value may hold a comma itself, as a path can.
    return Condition(field, (value.strip(), *(values if len(values) > 1 else ())), negated, text)


def _equal(text: str, value: Any) -> bool:
    """Compare as YAML would read the text, were it written where the value was: 16 is 16.0, but no ``true``."""
    if isinstance(value, bool):
        return text.lower() == str(value).lower()
    if value is None:
        return text.lower() in ("null", "~", "none")
    if isinstance(value, int | float):
        return any(number == value for number in _numbers(text))
    return bool(text == value)


def _numbers(text: str) -> Iterator[int | float]:
    """Read a number; a whole one exactly, as a seed may have more digits than a float."""
    for kind in (int, float):
        try:
            yield kind(text.lower().replace(".inf", "inf"))
            return
        except ValueError:
            pass


def _check_fields(where: Where, known: Sequence[Mapping[str, Any]]) -> None:
    names = {name for fields in known for name in fields}
    for condition in where.conditions:
        if condition.field not in names:
            sections = sorted({name.partition(".")[0].partition("[")[0] for name in names if "." in name})
            options = sorted(name for name in names - {*FIELDS, *sections} if "." not in name and "[" not in name)
            raise DmlBenchError(
                f"condition '{condition.text}': no run has a field '{condition.field}'"
                f"{suggestion(condition.field, sorted(names))}; allowed are {', '.join(FIELDS)}"
                + (f"; of these runs {', '.join(options)}" if options else "")
                + (f"; and dotted paths of the recipe that begin with {', '.join(sections)}" if sections else "")
            )


def _nothing_left(where: Where, known: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"no run is left of {len(known)} looked at"]
    for condition in where.conditions if known else ():
        kept = sum(map(condition.holds, known))
        found = {fields[condition.field] for fields in known if condition.field in fields}
        values = [show(value) for value in sorted(found, key=_rank)]
        more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
        lines.append(f"'{condition.text}' keeps {kept}: {condition.field} is {', '.join(values[:SHOWN])}{more}")
    return "\n  ".join(lines)


def _rank(value: Any) -> tuple[bool, int | float, str]:
    """Sort numbers by size, and before texts."""
    number = isinstance(value, int | float)
    return not number, value if number else 0, str(value)
