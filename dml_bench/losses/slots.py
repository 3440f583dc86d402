"""A slot of the proxy loss: the registry of the parts that fit into it, and how a recipe writes one down.

A recipe names a part alone (``cosine``), with options (``{soft: {gamma: 0.1}}``), or with its first option only
(``{additive: 0.35}``). A part is a frozen dataclass whose keyword-only fields are its options, a plain function that
has none, or a factory; one that must know the training set takes the task as its positional-only parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core.core_schema import CoreSchema, no_info_plain_validator_function

from dml_bench.errors import OptionError, Problem
from dml_bench.registry import Entry, Registry, show

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Slot(Registry[T]):
    """The parts of one slot by name.

    Args:
        kind: what a recipe calls the slot; plug-ins come from the entry points ``dml_bench.<kind>``.
    """

    def part(self, name: str, doc: str | None = None) -> Callable[[F], F]:
        """Register the decorated function itself as a part without options; its docstring is ``doc`` if given."""

        def add(function: F) -> F:
            def factory() -> F:
                return function

            factory.__doc__ = doc or function.__doc__
            self.register(name)(factory)
            return function

        return add

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let ``Annotated[Any, slot]`` be the annotation of "one part of this slot"."""
        return no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe the parts in words, with their options."""
        return {"description": ", ".join(map(_describe, self))}

    def check(self, choice: object) -> str | dict[str, dict[str, Any]]:
        """Return a choice in its one canonical form: the name, with every option spelt out if the part has any.

        Raises:
            OptionError: for an unknown part or wrong options; paths begin inside the choice.
        """
        entry, options = self._read(choice)
        try:
            checked = entry.check(options)
        except OptionError as error:
            raise OptionError([Problem((entry.name, *p.path), p.message) for p in error.problems]) from None
        return {entry.name: checked} if checked else entry.name

    def assemble(self, choice: str | Mapping[str, Any], task: object) -> T:
        """Build the part that a checked choice names."""
        entry, options = self._read(choice)
        return entry.build(*([task] if entry.facts else []), **options)

    def _read(self, choice: object) -> tuple[Entry[T], Mapping[str, Any]]:
        if isinstance(choice, str):
            return self[choice], {}
        if not isinstance(choice, Mapping) or len(choice) != 1:
            raise OptionError([Problem((), f"must be a name or {{name: options}}, not {choice!r}")])
        ((name, options),) = choice.items()
        entry = self[name]
        if isinstance(options, Mapping):
            return entry, options
        if options is None or not entry.options:
            return entry, {} if options is None else {"value": options}
        return entry, {entry.options[0].name: options}


def _describe(entry: Entry[Any]) -> str:
    options = ", ".join(f"{option.name}: {show(option.default)}" for option in entry.options)
    return f"{entry.name} {{{options}}}" if options else entry.name
