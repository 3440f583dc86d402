"""One generic registry: names, factories whose signatures are their schemas, and plug-ins.

A factory's positional-only parameters are what the program supplies (class count, data root, ...). Its keyword-only
parameters are what a recipe may set; their annotations are checked by pydantic and shown by ``dml-bench info``.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Generic, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from dml_bench.errors import OptionError, Path, Problem

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Radians = Annotated[float, Field(ge=0, le=math.pi)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Option:
    """One option of a registered factory, as ``dml-bench info`` shows it."""

    name: str
    default: Any
    allowed: str


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A registered factory with the options read off its signature.

    Args:
        name: what a recipe says.
        factory: a function, or a class, whose parameters are positional-only (facts) or keyword-only (options).
        refuse: raises an OptionError for checked options, given by keyword, that do not go together.
        beside: raises an OptionError for a recipe, given as a mapping, whose other choices it cannot work with.
    """

    name: str
    factory: Callable[..., T]
    refuse: Callable[..., None] | None = None
    beside: Callable[[Mapping[str, Any]], None] | None = None
    facts: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        parameters = inspect.signature(self.factory).parameters.values()
        object.__setattr__(self, "facts", tuple(p.name for p in parameters if p.kind is p.POSITIONAL_ONLY))
        odd = [p.name for p in parameters if p.kind not in (p.POSITIONAL_ONLY, p.KEYWORD_ONLY)]
        if odd:
            raise TypeError(f"{self.name}: {', '.join(odd)} must be positional-only (facts) or keyword-only (options)")

    @cached_property
    def model(self) -> type[BaseModel]:
        """The pydantic model of the keyword-only parameters."""
        maker: Any = self.factory
        hints = get_type_hints(maker.__init__ if inspect.isclass(maker) else maker, include_extras=True)
        keywords = [p for p in inspect.signature(self.factory).parameters.values() if p.kind is p.KEYWORD_ONLY]
        bare = [p.name for p in keywords if p.name not in hints]
        if bare:
            raise TypeError(f"{self.name}: {', '.join(bare)} must have a type annotation, which says what is allowed")
        fields: dict[str, Any] = {
            p.name: (hints[p.name], ... if p.default is p.empty else Field(p.default, validate_default=True))
            for p in keywords
        }
        config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)
        return create_model(self.name, __config__=config, **fields)

    @cached_property
    def options(self) -> tuple[Option, ...]:
        """The options with default and allowed range."""
        schema = self.model.model_json_schema()
        shown = schema.get("properties", {})
        defaults = self.model.model_construct().model_dump(mode="json")
        return tuple(
            Option(name, defaults.get(name, "required"), _allowed(shown[name], schema))
            for name in self.model.model_fields
        )

    @property
    def doc(self) -> str:
        """The factory's docstring."""
        return inspect.cleandoc(self.factory.__doc__ or "")

    @property
    def summary(self) -> str:
        """The first paragraph of the docstring, on one line."""
        return " ".join(self.doc.split("\n\n")[0].split())

    def check(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``options`` checked, with every default filled in, as plain JSON values.

        Raises:
            OptionError: for unknown, missing or ill-typed options; all at once.
        """
        return self._parse(options).model_dump(mode="json")

    def build(self, *facts: Any, **options: Any) -> T:
        """Call the factory with ``facts`` and the checked ``options``."""
        checked = self._parse(options)
        return self.factory(*facts, **{name: getattr(checked, name) for name in self.model.model_fields})

    def _parse(self, options: Mapping[str, Any]) -> BaseModel:
        try:
            checked = self.model.model_validate(dict(options))
        except ValidationError as error:
            raise OptionError([problem for item in error.errors() for problem in self._problems(item)]) from None
        if self.refuse is not None:
            self.refuse(**{name: getattr(checked, name) for name in self.model.model_fields})
        return checked

    def _problems(self, item: Any) -> list[Problem]:
        path: Path = tuple(part for part in item["loc"] if not _is_branch(part))
        inner = item.get("ctx", {}).get("error")
        if isinstance(inner, OptionError):  # of a choice within the choice
            return [Problem((*path, *problem.path), problem.message) for problem in inner.problems]
        return [self._problem(path, item)]

    def _problem(self, path: Path, item: Any) -> Problem:
        if item["type"] == "extra_forbidden" and len(path) == 1:
            takes = ", ".join(f"{o.name}={show(o.default)}" for o in self.options) or "no options"
            hint = suggestion(str(path[0]), [o.name for o in self.options])
            return Problem(path, f"'{self.name}' has no option '{path[0]}'{hint}; it takes {takes}")
        given = "" if item["type"] == "missing" else f", not {show(item['input'])}"
        return Problem(path, plain(item["msg"]) + given)


@dataclass(frozen=True)
class Family(Generic[T]):
    """Names with a prefix that are looked up elsewhere when asked for, and not listed one by one.

    Args:
        prefix: what the names begin with, such as ``pml.``.
        summary: one line for the list.
        find: the entry of a whole name; raises an OptionError for one that does not exist.
    """

    prefix: str
    summary: str
    find: Callable[[str], Entry[T]]


class Registry(Generic[T]):
    """Names mapped to factories of ``T``.

    Args:
        kind: the plural noun users see, such as ``losses``; plug-ins come from the entry points ``dml_bench.<kind>``.
        modules: modules that register entries; imported at the first look-up, so that importing a registry is cheap.
    """

    def __init__(self, kind: str, modules: Sequence[str] = ()) -> None:
        self.kind = kind
        self._modules = tuple(modules)
        self._entries: dict[str, Entry[T]] = {}
        self._families: list[Family[T]] = []
        self._broken: dict[str, str] = {}
        self._loaded = False

    def register(
        self,
        name: str,
        *,
        refuse: Callable[..., None] | None = None,
        beside: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> Callable[[F], F]:
        """Register the decorated factory under ``name``; a name is registered once.

        Args:
            name: what a recipe says.
            refuse: raises an OptionError for checked options, given by keyword, that do not go together.
            beside: raises an OptionError for a recipe, given as a mapping, whose other choices it cannot work with.
        """

        def add(factory: F) -> F:
            if name in self._entries:
                raise ValueError(f"{self.kind}: '{name}' is registered already")
            self._entries[name] = Entry(name, factory, refuse, beside)
            return factory

        return add

    def register_family(self, family: Family[T]) -> None:
        """Look up every name that begins with the prefix of ``family`` there."""
        self._families.append(family)

    @property
    def families(self) -> tuple[Family[T], ...]:
        """What can be named besides the entries listed."""
        self._all()
        return tuple(self._families)

    @property
    def broken(self) -> Mapping[str, str]:
        """What is wrong with each plug-in that cannot be used, by the name it was to have."""
        self._all()
        return dict(self._broken)

    def __getitem__(self, name: str) -> Entry[T]:
        entries = self._all()
        if name in self._broken:
            raise OptionError([Problem((), self._broken[name])])
        if name in entries:
            return entries[name]
        for family in self._families:
            if name.startswith(family.prefix):
                return family.find(name)
        known = ", ".join([*sorted(entries), *(f"{family.prefix}*" for family in self._families)])
        raise OptionError([Problem((), f"no {self.kind} named '{name}'{suggestion(name, entries)}; known: {known}")])

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def __iter__(self) -> Iterator[Entry[T]]:
        return iter([entry for _, entry in sorted(self._all().items())])

    def build(self, name: str, *facts: Any, **options: Any) -> T:
        """Check ``options`` and call the factory of ``name`` with ``facts`` and the checked options.

        Raises:
            OptionError: for an unknown name or wrong options.
        """
        return self[name].build(*facts, **options)

    def _all(self) -> Mapping[str, Entry[T]]:
        if not self._loaded:
            self._loaded = True
            for module in self._modules:
                import_module(module)
            for point in entry_points(group=f"dml_bench.{self.kind}"):
                self._plug_in(point)
        return self._entries

    def _plug_in(self, point: EntryPoint) -> None:
        """Register a plug-in; one that is broken is kept with the reason, and harms no other name."""
        try:
            entry: Entry[T] = Entry(point.name, point.load())
            _ = entry.options  # reads the annotations here, where it is known whose they are
            self.register(point.name)(entry.factory)
        except Exception as error:
            package = f" of {point.dist.name}" if point.dist else ""
            reason = f"{type(error).__name__}: {error}"
            self._broken[point.name] = (
                f"the plug-in '{point.name}'{package} ({point.group}: {point.value}) cannot be used: {reason}"
            )


def suggestion(word: str, known: Any) -> str:
    """Return `` (did you mean 'x'?)`` for the closest known word, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def show(value: Any) -> str:
    """Write a value as YAML would: ``null``, ``true``, bare numbers."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if isinstance(value, int | float | dict | list) else f"'{value}'"


def plain(message: str) -> str:
    """Turn pydantic's sentence into the middle of one of ours."""
    for old, new in (("Input should be", "must be"), ("Field required", "is required"), ("Value error, ", "")):
        message = message.replace(old, new)
    return message


def _is_branch(part: Any) -> bool:
    """Pydantic puts the tried branch of a union into the path; it is no part of the user's file."""
    return isinstance(part, str) and (
        "[" in part or part in {"float", "int", "str", "bool", "none", "constrained-float"}
    )


def _allowed(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """Describe the values a JSON schema allows, such as ``number > 0``."""
    if "description" in schema:
        return str(schema["description"])
    if "$ref" in schema:
        properties = root["$defs"][schema["$ref"].rsplit("/", 1)[-1]].get("properties", {})
        return "{" + ", ".join(properties) + "}"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(_allowed(branch, root) for branch in schema[key])
    if "enum" in schema:
        return ", ".join(map(show, schema["enum"]))
    if "const" in schema:
        return show(schema["const"])
    words = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    bounds = [f"{sign} {schema[key]:.4g}" for key, sign in words.items() if key in schema]
    names = {"boolean": "true or false", "string": "text", "array": "list", "object": "mapping"}
    kind = str(schema.get("type", "value"))
    if kind == "array" and "items" in schema:
        return f"list of {_allowed(schema['items'], root)}"
    return " ".join([names.get(kind, kind), " and ".join(bounds)]).strip()
