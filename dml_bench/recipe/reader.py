"""YAML to checked runs, with every error at once, each with file and line; and back."""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean

from dml_bench.errors import Path, Problem, RecipeError
from dml_bench.recipe.check import Run, Vocabulary, check_point, references
from dml_bench.recipe.grid import Point, assign, expand
from dml_bench.recipe.schema import Recipe
from dml_bench.recipe.space import RANGE, Study, studies
from dml_bench.registry import show

Source = FilePath | str | Mapping[str, Any]


def read_recipe(source: Source, vocabulary: Vocabulary, changes: Iterable[str] = ()) -> list[Run]:
    """Read a recipe file (or an equal mapping), apply ``changes`` such as ``"training.epochs=3"``, expand and check it.

    Returns:
        The runs of the grid in the order written, duplicates dropped, reference runs last.

    Raises:
        RecipeError: one line ``file:line: path: what`` per problem; all problems of the recipe at once.
    """
    return _read(source, vocabulary, changes)[0]


def read_studies(source: Source, vocabulary: Vocabulary, changes: Iterable[str] = ()) -> list[Study]:
    """Read a recipe file (or an equal mapping) with a ``space`` to search; see ``read_recipe``.

    Returns:
        A study per loss of the grid, or rather per point of it, whatever its seed.

    Raises:
        RecipeError: one line ``file:line: path: what`` per problem; or if the recipe has no ``space``.
    """
    return _read(source, vocabulary, [*changes], searched=True)[1]


def _read(
    source: Source, vocabulary: Vocabulary, changes: Iterable[str], searched: bool = False
) -> tuple[list[Run], list[Study]]:
    document, lines, name = _load(source)
    sets = _apply(document, changes)
    document.setdefault("name", "recipe" if isinstance(source, Mapping) else safe_name(FilePath(name).stem))
    if searched and "space" not in document:
        raise RecipeError(f"{name}: space: is required, such as space: {{loss.scale: {{low: 8, high: 64, log: true}}}}")
    to_search, space = "space" in document, document.pop("space", None)
    runs: dict[str, Run] = {}
    found_studies: list[Study] = []
    found: dict[str, Problem] = {}
    with_references = document.pop("references", True)
    if not isinstance(with_references, bool):
        found["references"] = Problem(("references",), f"must be true or false, not {show(with_references)}")
    try:
        points = expand(document)
        for point in points:
            run, problems = check_point(point, vocabulary)
            for problem in problems:
                problem = Problem(point.origin(problem.path), problem.message)
                found.setdefault(str(problem), problem)
            if run:
                runs.setdefault(run.run_id, run)
        if to_search and not found:
            found_studies, problems = studies(space, points, vocabulary)
            found_studies = [replace(study, references=with_references) for study in found_studies]
            found |= {str(problem): problem for problem in problems}
    except RecipeError as error:
        problems = [*(error.problems or (Problem((), str(error)),)), *_beside_the_grid(document, vocabulary)]
        found |= {str(problem): problem for problem in problems}
    if found:
        where = [_place(problem, name, lines, sets) for problem in found.values()]
        raise RecipeError("\n".join(f"{w}: {p}" for w, p in zip(where, found.values(), strict=True)), [*found.values()])
    for run in references(list(runs.values()), vocabulary) if with_references else ():
        runs.setdefault(run.run_id, run)
    return list(runs.values()), found_studies


def write_recipe(recipe: Recipe) -> str:
    """Write one run as a recipe file that repeats it."""
    return write_document({**recipe.document(), "references": False})


def write_document(document: Mapping[str, Any]) -> str:
    """Write a recipe as YAML; a grid stays one."""
    stream = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 4096  # paths stay in one piece
    yaml.dump(dict(document), stream)
    return stream.getvalue()


def with_changes(document: Mapping[str, Any], changes: Iterable[str]) -> dict[str, Any]:
    """Return a recipe with ``"path=value"`` changes made.

    Raises:
        RecipeError: naming each change that cannot be made.
    """
    changed = copy.deepcopy(dict(document))
    _apply(changed, changes)
    return changed


def _load(source: Source) -> tuple[dict[str, Any], Any, str]:
    """Return the plain document, the same with line numbers, and the name to call it."""
    if isinstance(source, Mapping):
        return _plain(copy.deepcopy(dict(source)), "recipe"), None, "recipe"
    path = FilePath(source)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a UTF-8 text file"
        raise RecipeError(f"{path}: cannot read the recipe: {reason}") from None
    try:
        lines = YAML(typ="rt").load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise RecipeError(f"{path}{f':{mark.line + 1}' if mark else ''}: not valid YAML: {what}") from None
    document = _plain(lines, str(path))
    if not isinstance(document, dict):
        raise RecipeError(f"{path}: a recipe is a mapping with at least dataset and loss, not {show(document)}")
    return document, lines, str(path)


def safe_name(stem: str) -> str:
    """Turn a file's name into a recipe's."""
    return re.sub(r"^\W|[^\w.+-]", "_", stem) or "recipe"


def _beside_the_grid(document: dict[str, Any], vocabulary: Vocabulary) -> list[Problem]:
    """Return what else is wrong in a recipe whose grid cannot be expanded."""
    base = {key: value for key, value in document.items() if key not in ("grid", "seeds")}
    _, problems = check_point(Point(base), vocabulary)
    return [problem for problem in problems if not problem.message.startswith("is required")]


def _plain(value: Any, name: str) -> Any:
    """Strip the reader's own types, so that only what JSON knows is left."""
    if isinstance(value, Mapping):
        odd = [key for key in value if not isinstance(key, str)]
        if odd:
            raise RecipeError(f"{name}: keys must be text, not {odd[0]!r}")
        return {str(key): _plain(item, name) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, name) for item in value]
    if isinstance(value, ScalarBoolean):
        return bool(value)
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    raise RecipeError(
        f"{name}: {value!r} is nothing a recipe can hold (text, number, true, false, null, list, mapping)"
    )


def _apply(document: dict[str, Any], changes: Iterable[str]) -> dict[Path, str]:
    """Apply ``a.b=v`` changes to the document in place; return them by path."""
    sets: dict[Path, str] = {}
    mistakes = []
    for change in changes:
        try:
            path, value = _parse(document, change)
            assign(document, path, value)
            sets[path] = change
        except RecipeError as error:
            mistakes.append(str(error))
    if mistakes:
        raise RecipeError("\n".join(mistakes))
    return sets


def _parse(document: dict[str, Any], change: str) -> tuple[Path, Any]:
    """Return the path and the value of a change."""
    key, sign, text = change.partition("=")
    if not sign or not all(key.split(".")):
        raise RecipeError(f"--set {change}: write it as path=value, such as --set training.epochs=3")
    try:
        value = _plain(YAML(typ="rt").load(text), f"--set {change}")
    except YAMLError:
        raise RecipeError(f"--set {change}: the value is not valid YAML") from None
    return _settable(document, key, change), value


def _settable(document: dict[str, Any], key: str, change: str) -> Path:
    """Return the path to set, unless the grid would overrule it."""
    grid = document.get("grid")
    blocks = grid if isinstance(grid, list) else [grid]
    axes = {axis for block in blocks if isinstance(block, dict) for axis in block}
    for axis in axes:
        if f"{key}.".startswith(f"{axis}."):
            raise RecipeError(f"--set {change}: '{axis}' is an axis of the grid; set it as --set 'grid.{axis}=[...]'")
    if key.startswith("space."):
        return _in_space(document.get("space"), key.removeprefix("space."))
    if not key.startswith("grid."):
        return tuple(key.split("."))
    if isinstance(grid, list):
        raise RecipeError(f"--set {change}: this grid has several blocks; set all of it with --set 'grid=[...]'")
    return "grid", key.removeprefix("grid.")


def _in_space(space: Any, key: str) -> Path:
    """Return the path to a range of the space, whose keys have dots, or to a part of one."""
    name, _, part = key.rpartition(".")
    known = isinstance(space, dict) and key not in space and name in space
    return ("space", name, part) if known and part in RANGE else ("space", key)


def _place(problem: Problem, name: str, lines: Any, sets: Mapping[Path, str]) -> str:
    """Say where a problem was written: ``file:line``, or the ``--set`` that wrote it."""
    for path, change in sets.items():
        if problem.path[: len(path)] == path:
            return f"--set {change}"
    line, here = None, lines
    for part in problem.path:
        try:
            line, here = here.lc.data[part][0] + 1, here[part]
        except (AttributeError, KeyError, TypeError, IndexError):
            break
    return name if line is None else f"{name}:{line}"
