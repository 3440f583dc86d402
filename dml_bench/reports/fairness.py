"""Whether the losses of a table were given the same: training, tuning, network, image size, training part."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from dml_bench.reports.options import options_text
from dml_bench.reports.summary import Row, Section

IMAGES = 0.05
"""Training on more images than others, by more than this share, is another budget."""


def compared(section: Section) -> list[Row]:
    """Return the rows that are compared: those that were trained."""
    return [row for row in section.rows if not row.is_reference]


def unequal(section: Section, fact: Callable[[Row], Hashable]) -> list[str]:
    """Say which losses go with which facts, if the losses that have numbers do not all have the same ones."""
    facts: dict[str, set[Hashable]] = defaultdict(set)
    for row in compared(section):
        if row.finished:
            facts[row.loss].add(fact(row))
    if len({frozenset(values) for values in facts.values()}) < 2:
        return []
    losses: dict[str, list[str]] = defaultdict(list)
    for loss, values in facts.items():
        losses[" and ".join(sorted(map(str, values)))].append(loss)
    return ["; ".join(f"{value} ({', '.join(sorted(names))})" for value, names in losses.items())]


def budget(recipe: Mapping[str, Any]) -> str:
    """Say how long a recipe trains, and on how many images at once."""
    training = recipe.get("training") or {}
    given = [f"{training[name]} {name}" for name in ("epochs", "steps", "images") if training.get(name) is not None]
    sampler = training.get("sampler") or {}
    sizes = [str(sampler[name]) for name in ("classes_per_batch", "images_per_class", "batch_size") if name in sampler]
    accumulated = f" x {training['accumulate']}" if training.get("accumulate", 1) > 1 else ""
    size = math.prod(map(int, sizes)) if sizes else "unknown"
    return f"{', '.join(given) or 'unknown length'}, batches of {size}{accumulated}"


def tuning(recipe: Mapping[str, Any]) -> str:
    """Say how much a recipe was tuned."""
    given = recipe.get("tuning") or {}
    return ", ".join(f"{given[name]} {name}" for name in ("trials", "folds") if given.get(name)) or "none"


def unequal_images(section: Section) -> str:
    """Say so if some rows were trained on more images than others, though their settings are the same.

    Where patience ends training, nothing else is to be expected.
    """
    rows = [row for row in compared(section) if not (row.runs[0].recipe.get("selection") or {}).get("patience")]
    by_budget: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for row in rows:
        if count := _images(row):
            by_budget[budget(row.runs[0].recipe)].append((count, row.loss))
    for images in by_budget.values():
        (least, short), (most, long) = min(images), max(images)
        if most > (1 + IMAGES) * least:
            return f"training saw {least:.0f} images ({short}) to {most:.0f} ({long})"
    return ""


def _images(row: Row) -> float:
    counts = [sum(epoch.images_per_second * epoch.seconds for epoch in run.curve) for run in row.finished]
    return math.fsum(counts) / len(counts) if counts else 0.0


def resolution(row: Row) -> str:
    """Say how large the images are that a row's network sees."""
    run = row.finished[0]
    size = run.recipe.get("dataset", {}).get("image_size")
    shape = run.data.get("image_shape")
    return f"{size} pixels" if size else " x ".join(map(str, shape)) if shape else "unknown"


def training_part(row: Row) -> str:
    """Say what of the training part a row was trained on."""
    return " and ".join(sorted({_subset(run.recipe.get("subset") or ()) for run in row.runs}))


def _subset(parts: Iterable[Mapping[str, Any]]) -> str:
    said = (" ".join((part["name"], options_text({k: v for k, v in part.items() if k != "name"}))) for part in parts)
    return " then ".join(text.strip() for text in said) or "all of it"
