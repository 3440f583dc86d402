"""Recipes to copy: what runs a row again, seeds and all, each line of text stored once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from dml_bench.recipe.reader import write_document
from dml_bench.reports.summary import Row, Section


def recipe_text(row: Row, blocks: dict[str, str] | None = None) -> str:
    """Write a row as a recipe file that runs all its seeds, on the reader's own copy of the data.

    Args:
        row: its records tell the recipe; the text is empty if they do not.
        blocks: parts that were written before, to write none twice; rows share most.
    """
    recipe = row.runs[0].recipe
    if not recipe:
        return ""
    known = {} if blocks is None else blocks
    kept = {name: value for name, value in recipe.items() if name not in ("seed", "data_root")}
    kept |= {"seeds": [run.seed for run in row.runs], "references": False}
    return "".join(_block({name: value}, known) for name, value in kept.items())


def recipe_key(row: Row) -> str:
    """Name a row's recipe, seeds and all: two rows may share the rest of it."""
    return f"{row.runs[0].recipe_id}, seeds {' '.join(str(run.seed) for run in row.runs)}"


def packed(found: Iterable[Section]) -> dict[str, Any]:
    """Return the recipes of all rows: ``lines``, and ``recipes``, the numbers of its lines by ``recipe_key``."""
    lines: dict[str, int] = {}
    recipes: dict[str, list[int]] = {}
    blocks: dict[str, str] = {}
    for row in (row for section in found for row in section.rows):
        text = recipe_text(row, blocks)
        if text:
            recipes[recipe_key(row)] = [lines.setdefault(line, len(lines)) for line in text.split("\n")]
    return {"lines": list(lines), "recipes": recipes}


def _block(part: dict[str, Any], known: dict[str, str]) -> str:
    key = json.dumps(part, sort_keys=False)
    if key not in known:
        known[key] = write_document(part)
    return known[key]
