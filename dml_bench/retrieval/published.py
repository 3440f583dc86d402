"""A published run, opened again: its record, its network, its test images and their embeddings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32
from pydantic import ValidationError

from dml_bench.data.catalog import LISTINGS
from dml_bench.data.dataset import Split
from dml_bench.data.embedding_files import EmbeddingFile
from dml_bench.data.listing import GALLERY, QUERY, TEST
from dml_bench.data.pictures import ImageArray
from dml_bench.errors import DataError, ResultsError
from dml_bench.evaluation.extract import extract
from dml_bench.losses import Loss
from dml_bench.models.embedder import Embedder
from dml_bench.recipe.schema import Recipe, Training
from dml_bench.results.record import RunRecord
from dml_bench.results.store import read_runs
from dml_bench.runners.rescoring import stored_embeddings
from dml_bench.splits import load_split
from dml_bench.training.assembly import load_run
from dml_bench.training.precision import arithmetic

SHOWN = 5
"""Runs that a message lists."""


@dataclass(frozen=True, eq=False)
class Published:
    """A run with its network and its loss (None if nothing was trained), on the CPU, for evaluation."""

    record: RunRecord
    recipe: Recipe
    model: Embedder
    loss: Loss | None

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return folder_of(self.record)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height, width and channels of its images; of features, how many."""
        return tuple(self.record.data.get("image_shape") or data_of(self.record).test.image_shape)

    def embed(self, images: ImageArray) -> Float32[np.ndarray, "N D"]:
        """Embed images ``(N, H, W, C)`` uint8, or features, as the test images were."""
        with arithmetic(self.recipe.training or Training()):
            return extract(self.model, images)


def find_one(folder: Path, name: str = "") -> RunRecord:
    """Return the only run at or below a folder, or the only one there that ``name`` is said of.

    Args:
        folder: of a run, or of runs.
        name: a loss, a recipe's id or a run's id; empty for any.

    Raises:
        ResultsError: if there is no such run or more than one, or it failed.
    """
    found = [run for run in read_runs([folder]) if name in ("", run.loss, run.recipe_id, run.run_id)]
    text = f"{folder}:{name}" if name else str(folder)
    if not found:
        raise ResultsError(f"{text}: names no run; allowed: a loss, a recipe's id or a run's id behind the folder")
    if len(found) > 1:
        some = ", ".join(f"{run.run_id} ({run.loss})" for run in found[:SHOWN])
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise ResultsError(f"{text}: names {len(found)} runs, and must name one, as {folder}:RUN_ID: {some}{more}")
    if found[0].status == "failed":
        raise ResultsError(f"{folder_of(found[0])}: the run failed, so there is no network: {found[0].reason}")
    return found[0]


def recipe_of(record: RunRecord) -> Recipe:
    """Return the recipe of a run.

    Raises:
        ResultsError: if this version does not know such a recipe.
    """
    try:
        return Recipe.model_validate(dict(record.recipe))
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise ResultsError(f"{folder_of(record)}: its recipe is none of this version: {what}") from None


def open_run(record: RunRecord) -> Published:
    """Read the network of a run.

    Raises:
        ResultsError: if it kept none, or the file is damaged or of another recipe.
    """
    model, loss, recipe = load_run(folder_of(record))
    if recipe.document() != recipe_of(record).document():
        raise ResultsError(f"{folder_of(record)}: checkpoint.pt is of another recipe than record.json")
    return Published(record, recipe, model, loss)


def stored(record: RunRecord) -> EmbeddingFile:
    """Read the embeddings that a run was measured on, with its masks of queries and gallery.

    Raises:
        DataError: if they are missing or damaged, or not as many as the record says.
    """
    return stored_embeddings(folder_of(record) / "embeddings.npz", record)


def data_of(record: RunRecord, data_root: Path | None = None) -> Split:
    """Load the data that a run was measured on.

    Args:
        record: of the run.
        data_root: folder of the data sets; by default the recipe's, then ``$DML_BENCH_DATA``.

    Raises:
        DataError: if they are not at hand, or others than when it was run.
    """
    recipe = recipe_of(record)
    changes: dict[str, Any] = {"selection": {"name": "last"}}  # what it holds out is no test image
    changes |= {"data_root": str(data_root)} if data_root else {}
    split = load_split(recipe.model_copy(update=changes))
    if split.digest != record.data.get("digest", split.digest):
        raise DataError(f"{record.dataset}: the data here are not those that {record.run_id} was measured on")
    return split


def files_tested(record: RunRecord, data_root: Path | None = None) -> tuple[str, ...] | None:
    """Return the files of a run's test images, in their order; None if they are no files.

    Raises:
        DataError: if the data are not at hand.
    """
    options = dict(recipe_of(record).dataset)
    name = str(options.pop("name"))
    if name not in LISTINGS:
        return None
    root = data_root or record.recipe.get("data_root") or os.environ.get("DML_BENCH_DATA")
    entry = LISTINGS[name]
    own = {option.name for option in entry.options}
    listing = entry.build(Path(root) if root else None, **{key: options[key] for key in options if key in own})
    return tuple(listing.paths[row] for row in listing.part(TEST, QUERY, GALLERY))


def file_names(files: Sequence[str] | None, rows: npt.NDArray[np.int64]) -> list[str]:
    """Name some test images: by their files, else by their place among them, counted from 0."""
    return [f"test image {row}" if files is None else files[row] for row in rows.tolist()]


def folder_of(record: RunRecord) -> Path:
    """Return the folder of a record that was read.

    Raises:
        ResultsError: if it was made otherwise.
    """
    if record.folder is None:
        raise ResultsError(f"{record.run_id}: was not read from a folder, so nothing but its record is there")
    return record.folder
