"""From a recipe with axes to single runs."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dml_bench.errors import Path, Problem, RecipeError, dotted
from dml_bench.recipe.identity import APART
from dml_bench.recipe.schema import CHOICES

WHOLE = {".".join(path) for path in CHOICES}
"""Axes that replace a name with its options."""


@dataclass(frozen=True)
class Point:
    """One run of the grid: its recipe, still unchecked, and where each value that an axis set comes from."""

    values: dict[str, Any]
    origins: dict[Path, Path] = field(default_factory=dict)

    @property
    def axes(self) -> list[str]:
        """The dotted paths that the grid set."""
        return [dotted(path) for path in self.origins]

    def origin(self, path: Path) -> Path:
        """Return where in the file the value at ``path`` was written."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]] + path[length:]
        return path


def expand(document: Mapping[str, Any]) -> list[Point]:
    """Multiply the axes of ``grid`` and ``seeds`` out.

    ``grid`` is a mapping of dotted paths to lists, whose product is taken, or a list of such mappings, whose products
    are joined. ``seeds: [0, 1]`` is the axis ``seed``, and varies fastest.

    Raises:
        RecipeError: if the grid has another shape.
    """
    base = {key: value for key, value in document.items() if key not in ("grid", "seeds")}
    blocks = list(_blocks(document))
    problems = [problem for where, block in blocks for problem in _block_problems(where, block)]
    problems += _seeds_problems(document)
    problems += [problem for where, block in blocks for problem in _conflicts(base, where, block)]
    if problems:
        raise RecipeError("\n".join(map(str, problems)), problems)
    points = []
    for where, block in blocks:
        axes = [[((axis, (*where, axis, i)), value) for i, value in enumerate(block[axis])] for axis in block]
        if "seeds" in document:
            axes.append([(("seed", ("seeds", i)), value) for i, value in enumerate(document["seeds"])])
        points += [_point(base, settings) for settings in itertools.product(*axes)]
    return points


def assign(values: dict[str, Any], path: Path, value: Any) -> None:
    """Set the value at ``path``, making mappings on the way; a bare name on the way becomes ``{name: ...}``."""
    *parents, last = path
    here: Any = values
    for part in parents:
        child = here.get(part)
        if isinstance(child, str):
            child = {"name": child}
        elif child is None:
            child = {}
        elif not isinstance(child, dict):
            raise RecipeError(f"{dotted(path)}: '{part}' holds {child!r}, which has no parts to set")
        here[part] = child
        here = child
    here[last] = value


def _point(base: dict[str, Any], settings: tuple[Any, ...]) -> Point:
    values = copy.deepcopy(base)
    origins: dict[Path, Path] = {}
    paths: list[tuple[Path, Path, Any]] = [
        (tuple(axis.split(".")), origin, value) for (axis, origin), value in settings
    ]
    for path, origin, value in sorted(paths, key=lambda setting: len(setting[0])):  # loss before loss.margin
        assign(values, path, copy.deepcopy(value))
        origins[path] = origin
    return Point(values, origins)


def _blocks(document: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    grid = document.get("grid")
    if isinstance(grid, list) and grid:
        yield from ((("grid", i), block) for i, block in enumerate(grid))
    else:
        yield ("grid",), {} if grid is None else grid


def _block_problems(where: Path, block: Any) -> Iterator[Problem]:
    if not isinstance(block, dict):
        yield Problem(where, "must map paths to lists, such as {loss: [arcface, softtriple], loss.scale: [16, 30]}")
        return
    for axis, values in block.items():
        if str(axis).split(".")[0] in APART and axis != "seed":
            yield Problem((*where, axis), f"'{axis}' changes no run, so it cannot be an axis")
        if not isinstance(values, list) or not values:
            yield Problem((*where, axis), f"must be a list with at least one value, not {values!r}")


def _conflicts(base: Mapping[str, Any], where: Path, block: Any) -> Iterator[Problem]:
    """Yield the axes that would replace a whole mapping or choice written outside the grid, and so ignore it."""
    for axis in block if isinstance(block, dict) else ():
        here: Any = base
        for part in axis.split("."):
            here = here.get(part) if isinstance(here, dict) else None
        if isinstance(here, dict) or (here is not None and axis in WHOLE):
            yield Problem((*where, axis), f"'{axis}' is given outside the grid as well; give it in one place")


def _seeds_problems(document: Mapping[str, Any]) -> list[Problem]:
    if "seeds" not in document:
        return []
    seeds = document["seeds"]
    if not isinstance(seeds, list) or not seeds:
        return [Problem(("seeds",), f"must be a list of whole numbers, such as [0, 1, 2], not {seeds!r}")]
    given = "seed" in document or any("seed" in block for _, block in _blocks(document) if isinstance(block, dict))
    return [Problem(("seeds",), "is given beside seed; give one of them")] if given else []
