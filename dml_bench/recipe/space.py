"""What a recipe lets a search choose: ``space``, checked against the points of the grid."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dml_bench.errors import OptionError, Path, Problem
from dml_bench.recipe.check import Run, Vocabulary, check_point
from dml_bench.recipe.grid import Point, assign
from dml_bench.recipe.identity import APART
from dml_bench.registry import show, suggestion

RANGE = ("low", "high", "log", "step")
EXAMPLE = (
    "write {low: 0.0, high: 0.5}, {low: 1e-5, high: 1e-2, log: true}, {low: 2, high: 20, step: 2} or {choices: [...]}"
)


@dataclass(frozen=True)
class Dimension:
    """One setting that is searched.

    Attributes:
        path: where it stands in a recipe, such as ``("loss", "margin")``.
        low, high: the ends of the range, both allowed.
        whole: whether it is a whole number.
        log: whether the logarithm is searched evenly.
        step: the distance of the values, if it is given.
        choices: the values instead of a range.
    """

    path: tuple[str, ...]
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """The dotted path."""
        return ".".join(self.path)


@dataclass(frozen=True)
class Study:
    """What is searched for one point of the grid, all seeds being one.

    Attributes:
        name: the loss, and a number behind it if the grid has the loss more than once.
        base: the recipe without the searched settings filled in.
        dimensions: the settings that are searched.
        seeds: those of the recipe, of which ``base`` has the first.
        references: whether the recipe wants its reference rows.
    """

    name: str
    base: Point
    dimensions: tuple[Dimension, ...]
    seeds: tuple[int, ...] = ()
    references: bool = True

    def run(self, values: Mapping[str, Any], vocabulary: Vocabulary, **more: Any) -> Run:
        """Return the checked run with ``values`` by dotted path, and ``more`` sections of the recipe replaced.

        Raises:
            OptionError: if the values do not go together.
        """
        run, problems = check_point(self.point(values, **more), vocabulary)
        if run is None:
            raise OptionError(problems)
        return run

    def point(self, values: Mapping[str, Any], **more: Any) -> Point:
        """Return the recipe with ``values`` by dotted path, wholes before parts, and ``more`` sections replaced."""
        document = copy.deepcopy(self.base.values)
        paths = [(tuple(name.split(".")), value) for name, value in values.items()]
        for path, value in sorted(paths, key=lambda setting: len(setting[0])):
            assign(document, path, copy.deepcopy(value))
        return Point({**document, **more})


def studies(space: Any, points: Sequence[Point], vocabulary: Vocabulary) -> tuple[list[Study], list[Problem]]:
    """Return a study per point of the grid, points that differ in the seed alone being one; or what is wrong.

    A key of ``space`` is the dotted path of a setting. ``loss.margin`` is searched for each loss of the grid that has
    the option; ``arcface.margin`` for that loss alone, instead of ``loss.margin``.
    """
    problems = list(_shape(space))
    if problems:
        return [], problems
    found: list[Study] = []
    used: set[str] = set()
    distinct = _distinct(points, vocabulary)
    losses = {run.method for _, _, run, _ in distinct}
    names = losses | {entry.name for entry in vocabulary.registries["losses"]}  # those of a library are not listed
    for name, point, run, seeds in distinct:
        problems += [problem for problem in _overruled(space, point) if problem not in problems]
        keys = _keys(space, run, names, vocabulary)
        used |= set(keys.values())
        dimensions = []
        for path, key in keys.items():
            dimension, wrong = _dimension(path, key, space[key], point, vocabulary)
            problems += [problem for problem in wrong if problem not in problems]
            dimensions += [dimension] if dimension else []
        found.append(Study(name, point, tuple(dimensions), seeds))
    for key in space:
        if key not in used:
            problems.append(Problem(("space", key), _unused(key, losses, names, vocabulary)))
    problems += [
        Problem(("space",), f"leaves nothing to search for {study.name}") for study in found if not study.dimensions
    ]
    return found, problems


def _shape(space: Any) -> Iterator[Problem]:
    if not isinstance(space, dict) or not space:
        yield Problem(("space",), f"must map paths to ranges, not {show(space)}; {EXAMPLE}")
        return
    for key, what in space.items():
        where: Path = ("space", key)
        if key == "loss" or key.split(".")[0] in (*APART, "dataset", "subset", "selection", "evaluation"):
            yield Problem(where, f"'{key}' cannot be searched: it would change what is compared")
        elif not isinstance(what, dict) or ("choices" in what) == ("low" in what or "high" in what):
            yield Problem(where, f"must be a range or choices, not {show(what)}; {EXAMPLE}")
        elif "choices" in what:
            if set(what) != {"choices"} or not isinstance(what["choices"], list) or not what["choices"]:
                yield Problem(where, f"choices must be a list with at least one value, and alone; {EXAMPLE}")
        else:
            yield from _range_problems(where, what)


def _range_problems(where: Path, what: Mapping[str, Any]) -> Iterator[Problem]:
    for name in set(what) - set(RANGE):
        yield Problem((*where, name), f"unknown key{suggestion(name, list(RANGE))}; {EXAMPLE}")
    numbers = {name: what.get(name) for name in ("low", "high", "step") if name in what or name != "step"}
    odd = [name for name, value in numbers.items() if isinstance(value, bool) or not isinstance(value, int | float)]
    for name in odd:
        yield Problem((*where, name), f"must be a number, not {show(numbers[name])}")
    if not isinstance(what.get("log", False), bool):
        yield Problem((*where, "log"), f"must be true or false, not {show(what['log'])}")
    if odd:
        return
    if not what["low"] < what["high"]:
        yield Problem(where, f"low must be below high, not {what['low']} and {what['high']}")
    if what.get("log") and (what["low"] <= 0 or "step" in what):
        yield Problem(where, "with log, low must be above 0 and there is no step")
    if what.get("step", 1) <= 0:
        yield Problem((*where, "step"), f"must be above 0, not {what['step']}")


def _distinct(points: Sequence[Point], vocabulary: Vocabulary) -> list[tuple[str, Point, Run, tuple[int, ...]]]:
    """Return the points that differ in more than the seed, with a name each."""
    known: dict[str, tuple[Point, Run]] = {}
    seeds: dict[str, list[int]] = defaultdict(list)
    for point in points:
        run, _ = check_point(point, vocabulary)
        if run is not None and run.recipe.loss is not None:
            known.setdefault(run.recipe_id, (point, run))
            seeds[run.recipe_id] += [run.recipe.seed] if run.recipe.seed not in seeds[run.recipe_id] else []
    methods = [run.method for _, run in known.values()]
    named = []
    for i, (point, run) in enumerate(known.values()):
        number = methods[: i + 1].count(run.method)
        several = methods.count(run.method) > 1
        named.append((f"{run.method}-{number}" if several else run.method, point, run, tuple(seeds[run.recipe_id])))
    return named


def _keys(space: Mapping[str, Any], run: Run, names: set[str], vocabulary: Vocabulary) -> dict[tuple[str, ...], str]:
    """Return which keys of the space concern a run, by the path they set; those of the loss by name come first."""
    name = run.method
    options = {option.name for option in vocabulary.registries["losses"][name].options}
    found: dict[tuple[str, ...], str] = {}
    for key in space:
        head, rest = _halves(key, names)
        if head == name and rest.split(".")[0] in options:
            found[("loss", *rest.split("."))] = key
        elif rest and head == "loss" and rest.split(".")[0] in options:
            found.setdefault(("loss", *rest.split(".")), key)
        elif head != "loss" and head not in names:
            found[tuple(key.split("."))] = key
    return found


def _halves(key: str, names: set[str]) -> tuple[str, str]:
    """Return the loss that a key begins with, whose name may have dots, or else its first part; and the rest."""
    head = max((name for name in names if key.startswith(f"{name}.")), key=len, default=key.partition(".")[0])
    return head, key[len(head) + 1 :]


def _overruled(space: Mapping[str, Any], point: Point) -> Iterator[Problem]:
    for key in space:
        for axis in point.axes:
            if f"{axis}.".startswith(f"{key}."):
                yield Problem(("space", key), f"would overrule '{axis}', an axis of the grid; give it in one place")


def _dimension(
    path: tuple[str, ...], key: str, what: Mapping[str, Any], point: Point, vocabulary: Vocabulary
) -> tuple[Dimension | None, list[Problem]]:
    """Return the dimension if a run can be built at its ends and of each choice; else what is wrong."""
    study = Study("", point, ())
    name = ".".join(path)

    def wrong(value: Any) -> list[Problem]:
        _, problems = check_point(study.point({name: value}), vocabulary)
        return problems

    if "choices" in what:
        tried: dict[Path, Any] = {("choices", i): value for i, value in enumerate(what["choices"])}
    else:
        tried = {("low",): what["low"], ("high",): what["high"]}
    problems = [
        Problem(("space", key, *where), f"{problem.path[-1] if problem.path else name} {problem.message}")
        for where, value in tried.items()
        for problem in wrong(value)
    ]
    if problems:
        return None, problems
    if "choices" in what:
        return Dimension(path, choices=tuple(what["choices"])), []
    low, high, step = float(what["low"]), float(what["high"]), what.get("step")
    # A setting that takes no fraction is a whole number.
    whole = low.is_integer() and high.is_integer() and bool(wrong(low + 0.5))
    if whole and step is not None and not float(step).is_integer():
        return None, [Problem(("space", key, "step"), f"must be a whole number, as {name} is, not {step}")]
    return Dimension(path, low, high, whole, what.get("log", False), None if step is None else float(step)), []


def _unused(key: str, losses: set[str], names: set[str], vocabulary: Vocabulary) -> str:
    known = vocabulary.registries["losses"]
    head, rest = _halves(key, names)
    if head in names and head not in losses:
        return f"'{head}' is no loss of this recipe, which has {', '.join(sorted(losses))}"
    options = sorted({option.name for loss in losses for option in known[loss].options})
    return f"no loss of this recipe has the option '{rest}'{suggestion(rest, options)}; they have {', '.join(options)}"
