"""Where a published run with two dimensions puts its training images, and where the centers of its loss lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dml_bench.errors import DataError, ResultsError
from dml_bench.evaluation.extract import extract
from dml_bench.flow import threads
from dml_bench.losses import Loss
from dml_bench.recipe.schema import Training
from dml_bench.results.record import RunRecord
from dml_bench.splits import load_split
from dml_bench.training.assembly import load_run
from dml_bench.training.precision import arithmetic

IMAGES = 2000
"""Training images that are embedded at most, evenly spaced."""

Plane = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float32], tuple[str, ...]]


def features_2d(folder: Path, data_root: Path | None = None) -> Plane:
    """Return embeddings of training images as the network makes them, and the centers of the loss.

    Args:
        folder: of a published run whose embeddings have two dimensions.
        data_root: folder of the data sets, if not the recipe's.

    Returns:
        embeddings ``(N, 2)``, labels ``(N,)``, centers ``(C, K, 2)`` with K = 0 where the loss has none, and the names
        of the C training classes.

    Raises:
        ResultsError: if the embeddings have more dimensions, or there are no weights in the folder.
        DataError: if the data that the run was trained on is not there.
    """
    model, loss, recipe = load_run(folder)
    if model.embedding_dim != 2:
        raise ResultsError(f"{folder}: its embeddings have {model.embedding_dim} dimensions; a scatter takes 2")
    recipe = recipe.model_copy(update={"data_root": str(data_root)}) if data_root else recipe
    split, trained_on = load_split(recipe), RunRecord.read(folder / "record.json").data["digest"]
    if split.digest != trained_on:
        raise DataError(
            f"{folder}: trained on {split.name} of digest {trained_on[:12]}; here it is {split.digest[:12]}"
        )
    train = split.train
    rows = np.unique(np.linspace(0, len(train) - 1, IMAGES).round().astype(np.int64))
    training = recipe.training or Training()
    with threads(training.threads), arithmetic(training):
        embeddings = extract(model, train.images[rows])
    return embeddings, train.labels[rows], _centers(loss, train.num_classes), train.class_names


def _centers(loss: Loss | None, classes: int) -> npt.NDArray[np.float32]:
    """Return ``(C, K, 2)`` centers; those of all members of an ensemble, or none."""
    centers = getattr(loss, "centers", None)
    if not isinstance(centers, Tensor) or centers.ndim not in (3, 4) or centers.shape[-3] != classes:
        return np.empty((classes, 0, 2), np.float32)
    by_class = centers if centers.ndim == 3 else centers.movedim(0, 1).flatten(1, 2)
    return by_class.detach().float().numpy()
