"""One point of a grid against schema and registries: what is wrong with it, or the checked run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from dml_bench.errors import OptionError, Path, Problem
from dml_bench.recipe.grid import Point
from dml_bench.recipe.identity import recipe_id
from dml_bench.recipe.schema import CHOICES, Recipe, Section, Training
from dml_bench.recipe.weights import pin
from dml_bench.registry import Registry, plain, show, suggestion

FEATURE_BACKBONES = ("identity", "mlp")
"""Networks that take features computed beforehand, or an image as the list of its pixels."""

RAW = {"pixels": "raw_pixels", "identity": "raw_features"}
"""Networks without a weight, and what a row of theirs is called."""

OWN_COLUMNS = {"dataset", "backbone", "embedding.dim", "loss", "seed"}
"""Axes that tables show in a column of their own."""


@dataclass(frozen=True)
class Vocabulary:
    """What names a recipe may use: the registries by kind, and a check of metric names."""

    registries: Mapping[str, Registry[Any]]
    check_metric: Callable[[str], object]


@dataclass(frozen=True)
class Run:
    """One checked run, and the options that set it apart in a table (see ``RunRecord.options``)."""

    recipe: Recipe
    options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def recipe_id(self) -> str:
        """The id of the recipe, the seed left out."""
        return recipe_id(self.recipe.document())

    @property
    def run_id(self) -> str:
        """The name of the run's folder."""
        return f"{self.recipe_id}-s{self.recipe.seed}"

    @property
    def method(self) -> str:
        """What makes the embeddings: a loss, or ``untrained``, ``raw_pixels`` or ``raw_features`` for a reference."""
        if self.recipe.loss:
            return str(self.recipe.loss["name"])
        return "untrained" if self.recipe.embedding else RAW.get(self.recipe.backbone["name"], "untrained")


def check_point(point: Point, vocabulary: Vocabulary) -> tuple[Run | None, list[Problem]]:
    """Check one point of a grid; return the run, or everything that is wrong with it."""
    values = copy.deepcopy(point.values)
    problems = [p for path, kind in CHOICES.items() for p in _fill(values, path, vocabulary.registries[kind])]
    problems += _metric_problems(values, vocabulary)
    problems += pin(values)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        return None, [*map(_schema_problem, error.errors()), *problems]
    problems = problems or list(_misfits(values, vocabulary))
    return (None, problems) if problems else (complete(recipe, vocabulary, point.axes), [])


def complete(recipe: Recipe, vocabulary: Vocabulary, axes: list[str]) -> Run:
    """Fill in the options that the recipe's choices left to their defaults, and name what sets the run apart."""
    values = recipe.document()
    if recipe.loss is None:
        values["training"] = None
    for path, kind in CHOICES.items():
        _fill(values, path, vocabulary.registries[kind])
    return Run(Recipe.model_validate(values), _options(values, axes, vocabulary.registries["losses"]))


def references(runs: list[Run], vocabulary: Vocabulary) -> Iterator[Run]:
    """Yield the rows that every table is read against: the same networks untrained, and what they are given.

    That is the image, as raw 16 x 16 pixels, or the features that a network of features is given.
    """
    for run in runs:
        yield complete(run.recipe.model_copy(update={"loss": None, "selection": _first_fold(run)}), vocabulary, [])
    for run in runs:
        raw = "identity" if run.recipe.backbone["name"] in FEATURE_BACKBONES else "pixels"
        change = {
            "loss": None,
            "selection": _first_fold(run),
            "backbone": {"name": raw},
            "embedding": None,
            "seed": runs[0].recipe.seed,
        }
        yield complete(run.recipe.model_copy(update=change), vocabulary, [])


def _first_fold(run: Run) -> dict[str, Any]:
    """Return the rule of selection, under which a reference is listed, with one fold for all."""
    chosen = run.recipe.selection
    return {**chosen, "fold": 1} if "fold" in chosen else chosen


def _fill(values: dict[str, Any], path: Path, registry: Registry[Any]) -> list[Problem]:
    """Check the choice at ``path``, or the list of them, and fill in the defaults; what is neither is the schema's."""
    here: Any = values
    for part in path[:-1]:
        here = here.get(part) if isinstance(here, dict) else None
    found = here.get(path[-1]) if isinstance(here, dict) else None
    if isinstance(found, list):
        return [p for i in range(len(found)) for p in _fill_one(found, i, (*path, i), registry, None)]
    return _fill_one(here, path[-1], path, registry, _default(path)) if isinstance(here, dict) else []


def _fill_one(
    here: Any, key: Any, path: Path, registry: Registry[Any], default: dict[str, Any] | None
) -> list[Problem]:
    choice = here.get(key) if isinstance(here, dict) else here[key]
    bare = isinstance(choice, str)
    choice = {"name": choice} if bare else choice
    if isinstance(choice, dict) and "name" not in choice and default:
        choice = {**default, **choice}
    if not isinstance(choice, dict) or not isinstance(choice.get("name"), str):
        return []
    try:
        entry = registry[choice["name"]]
    except OptionError as error:
        return [Problem(path if bare else (*path, "name"), problem.message) for problem in error.problems]
    try:
        options = {key: value for key, value in choice.items() if key != "name"}
        here[key] = {"name": entry.name, **entry.check(options)}
    except OptionError as error:
        return [Problem((*path, *problem.path), problem.message) for problem in error.problems]
    return []


def _misfits(values: dict[str, Any], vocabulary: Vocabulary) -> Iterator[Problem]:
    """Yield what choices that are right by themselves have against the rest of the recipe."""
    for path, kind in CHOICES.items():
        choice: Any = values
        for part in path:
            choice = choice.get(part) if isinstance(choice, dict) else None
        beside = vocabulary.registries[kind][choice["name"]].beside if isinstance(choice, dict) else None
        if beside:
            try:
                beside(values)
            except OptionError as error:
                yield from error.problems


def _default(path: Path) -> dict[str, Any] | None:
    """Return the choice that the schema makes at ``path``, so that a recipe can change an option of it alone."""
    section: type[Section] = Training if path[0] == "training" else Recipe
    default = section.model_fields[str(path[-1])].default
    return default if isinstance(default, dict) else None


def _metric_problems(values: dict[str, Any], vocabulary: Vocabulary) -> list[Problem]:
    evaluation = values.get("evaluation")
    metrics = evaluation.get("metrics") if isinstance(evaluation, dict) else None
    problems = []
    places: dict[Path, Any] = {
        ("evaluation", "metrics", i): m for i, m in enumerate(metrics if isinstance(metrics, list) else ())
    }
    selection = values.get("selection")
    places[("selection", "metric")] = selection.get("metric") if isinstance(selection, dict) else None
    for path, metric in places.items():
        try:
            found = vocabulary.check_metric(metric) if isinstance(metric, str) else None
        except OptionError as error:
            problems += [Problem(path, problem.message) for problem in error.problems]
            continue
        if path[0] == "selection" and getattr(found, "better", "higher") != "higher":
            problems.append(Problem(path, f"{metric} is not better the higher it is; allowed: one that is"))
    return problems


def _options(values: dict[str, Any], axes: list[str], losses: Registry[Any]) -> dict[str, Any]:
    loss = values["loss"] or {}
    defaults = {option.name: option.default for option in losses[loss["name"]].options} if loss else {}
    options = {key: value for key, value in loss.items() if key != "name" and value != defaults[key]}
    for axis in axes:
        if axis not in OWN_COLUMNS and not axis.startswith("loss."):
            value: Any = values
            for part in axis.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            options[axis] = value
    return options


def _schema_problem(item: Any) -> Problem:
    path: Path = tuple(part for part in item["loc"] if not (isinstance(part, str) and "[" in part))
    if item["type"] == "extra_forbidden":
        known = _known_keys(path[:-1])
        return Problem(path, f"unknown key{suggestion(str(path[-1]), known)}; known: {', '.join(known)}")
    given = "" if item["type"] in ("missing", "value_error") else f", not {show(item['input'])}"
    return Problem(path, plain(item["msg"]) + given)


def _known_keys(path: Path) -> list[str]:
    """Return the keys that the section at ``path`` may have."""
    section: type[Section] = Recipe
    for part in path:
        kind = section.model_fields[str(part)].annotation
        kinds = getattr(kind, "__args__", (kind,))
        section = next(k for k in kinds if isinstance(k, type) and issubclass(k, Section))
    return [*section.model_fields, *(("seeds", "grid", "references", "space") if section is Recipe else ())]
