"""The data that a recipe names: loaded, cut down and split as it says."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from dml_bench.data.dataset import DATASETS, Split
from dml_bench.data.folds import hold_out
from dml_bench.data.subsets import with_subsets
from dml_bench.recipe.schema import Recipe
from dml_bench.training.selection import SELECTIONS, Selection


def load_split(recipe: Recipe) -> Split:
    """Load the data of a recipe from its ``data_root``, else from ``$DML_BENCH_DATA``; the last one stays loaded."""
    selection = selection_of(recipe)
    choice = json.dumps([recipe.dataset, recipe.subset, selection.folds, selection.fold])
    return _load(choice, recipe.data_root or os.environ.get("DML_BENCH_DATA"))


def forget_split() -> None:
    """Let the next one be loaded from its files, which may have changed since."""
    _load.cache_clear()


@lru_cache(maxsize=1)
def _load(choice: str, root: str | None) -> Split:
    options, subset, folds, fold = json.loads(choice)
    split = DATASETS.build(options.pop("name"), Path(root) if root else None, **options)
    whole = replace(split, train=with_subsets(split, subset)) if subset else split
    if folds is None:
        return whole
    held = hold_out(split, folds, fold)
    return replace(held, train=with_subsets(held, subset) if subset else held.train, known_digest=whole.digest)


def describe(split: Split) -> dict[str, object]:
    """Return what a record keeps of its data: digest, image shape and sizes."""
    parts = {"train": split.train, "test": split.test}
    parts |= {} if split.validation is None else {"validation": split.validation}
    sizes = {name: {"images": len(part), "classes": part.num_classes} for name, part in parts.items()}
    return {"digest": split.digest, "image_shape": list(split.train.image_shape), **sizes}


def selection_of(recipe: Recipe) -> Selection:
    """Return the recipe's rule of model selection."""
    return SELECTIONS.build(**recipe.selection)
