"""Features that another network computed, as a data set: to compare losses in minutes, with no image and no GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dml_bench.data.catalog import half_of_classes
from dml_bench.data.dataset import DATASETS, ImageSet, Split
from dml_bench.data.embedding_files import EmbeddingFile, read_embeddings, share_labels
from dml_bench.data.folder import resolve
from dml_bench.data.listing import TRAIN
from dml_bench.errors import DataError, OptionError, Problem
from dml_bench.recipe.check import FEATURE_BACKBONES
from dml_bench.recipe.schema import Augmentation

Rule = Literal["class_disjoint", "official_closed"]


def _beside(recipe: Mapping[str, Any]) -> None:
    """Refuse choices that are for images."""
    problems = list(_for_images(recipe))
    if problems:
        raise OptionError(problems)


def _for_images(recipe: Mapping[str, Any]) -> Iterator[Problem]:
    backbone = recipe.get("backbone", {"name": "convnet"})["name"]
    if backbone not in (*FEATURE_BACKBONES, "pixels"):
        allowed = " or ".join(FEATURE_BACKBONES)
        yield Problem(("backbone", "name"), f"'{backbone}' needs images; embeddings are for {allowed}")
    if recipe.get("normalize", "dataset") not in ("dataset", "none"):
        yield Problem(("normalize",), f"must be dataset or none for embeddings, not {recipe['normalize']}")
    asked = (recipe.get("training") or {}).get("augmentation") or {}
    plain = Augmentation().model_dump()
    for name, value in asked.items():
        if value != plain[name]:
            yield Problem(("training", "augmentation", name), "changes images, and embeddings are none")


@DATASETS.register("embeddings", beside=_beside)
def embeddings(
    root: Path | None,
    /,
    *,
    path: str,
    test: str | None = None,
    labels: str | None = None,
    test_labels: str | None = None,
    split_column: str | None = None,
    split: Rule = "class_disjoint",
) -> Split:
    """Read features of images, computed beforehand, with a label for each.

    A file is ``.npz``, ``.npy``, ``.pt`` or a table; see ``dml_bench.data.embedding_files``. It says what is to train
    and to test by masks ``train``, ``query``, ``gallery`` or a split column with these words and ``test``; a row
    that is none of them takes no part. Without them the first half of the classes trains. A class on both sides is
    refused unless ``split: official_closed`` allows it. Numbers become float32.

    Args:
        root: folder of the data sets.
        path: of the file; absolute, or relative to ``root``, or else to the current folder.
        test: a file of its own for all that is tested; then all of ``path`` trains.
        labels: a file of labels alone, for ``path``.
        test_labels: a file of labels alone, for ``test``.
        split_column: of a table, the column that says what a row is for; by default ``split``, if there is one.
        split: whether a class may be to train and to test.

    Raises:
        DataError: naming the file and the row, if something is missing, damaged, not finite, or not allowed.
    """
    file = resolve(root, path)
    read = _read(file, resolve(root, labels) if labels else None, split_column)
    if test is None:
        chosen, kept = _rows(file, read, split), read
    else:
        other = resolve(root, test)
        apart = _read(other, resolve(root, test_labels) if test_labels else None, split_column)
        chosen, kept = _joined(file, read, other, apart)
    train, tested, closed = *chosen, split == "official_closed"
    shared = np.intersect1d(kept.labels[train], kept.labels[tested])
    if len(shared) and not closed:
        raise DataError(
            f"{file}: {len(shared)} classes are to train and to test, such as '{kept.label_names[shared[0]]}'; "
            "retrieval is tested on classes not seen, unless 'split: official_closed' allows it"
        )
    masks = {} if kept.query is None or kept.gallery is None else _masks(kept.query[tested], kept.gallery[tested])
    if masks and not len(np.intersect1d(kept.labels[kept.query], kept.labels[kept.gallery])):
        raise DataError(f"{other if test else file}: no class is in the query and in the gallery")
    variant = ("official_closed",) if len(shared) else ()
    return Split("embeddings", _part(kept, train), _part(kept, tested), **masks, variant=variant)


def _read(file: Path, labels: Path | None, split_column: str | None) -> EmbeddingFile:
    """Read a file, its numbers as float32."""
    read = read_embeddings(file, labels=labels, split_column=split_column)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is named
        values = np.ascontiguousarray(read.embeddings, dtype=np.float32)
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(wrong):
        raise DataError(f"{file}: row {wrong[0]} (from 0) holds a number that is not finite as float32")
    return replace(read, embeddings=values)


def _rows(file: Path, read: EmbeddingFile, split: Rule) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows to train and to test."""
    if read.query is None or read.gallery is None:
        if split == "official_closed":
            raise DataError(f"{file}: 'split: official_closed' needs a mask train, or a split column")
        first = half_of_classes(read.labels, str(file)) == TRAIN
        return np.flatnonzero(first), np.flatnonzero(~first)
    if read.train is None or not read.train.any():
        raise DataError(f"{file}: no row is to train; allowed: a mask train, a split column that says train, or 'test'")
    return np.flatnonzero(read.train), np.flatnonzero(read.query | read.gallery)


def _joined(
    file: Path, read: EmbeddingFile, other: Path, apart: EmbeddingFile
) -> tuple[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]], EmbeddingFile]:
    """Return the rows to train and to test, and both files as one."""
    widths = read.embeddings.shape[1], apart.embeddings.shape[1]
    if widths[0] != widths[1]:
        raise DataError(f"{other}: holds {widths[1]} features an item, and {file} holds {widths[0]}")
    if read.query is not None:
        raise DataError(f"{file}: says what is to test, and so does 'test'; allowed: one of them")
    read, apart = share_labels(read, apart)
    items = len(read.labels), len(apart.labels)
    none, every = np.zeros(items[0], bool), np.ones(items[1], bool)
    query, gallery = (None if m is None else np.concatenate([none, m]) for m in (apart.query, apart.gallery))
    asked = every if apart.query is None or apart.gallery is None else apart.query | apart.gallery
    both = np.concatenate([read.embeddings, apart.embeddings])
    whole = EmbeddingFile(both, np.concatenate([read.labels, apart.labels]), read.label_names, query, gallery)
    return (np.arange(items[0]), items[0] + np.flatnonzero(asked)), whole


def _masks(query: npt.NDArray[np.bool_], gallery: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Return the masks of a split; queries that are all in the gallery, and no more, need none."""
    return {} if query.all() and gallery.all() else {"query": query, "gallery": gallery}


def _part(read: EmbeddingFile, rows: npt.NDArray[np.int64]) -> ImageSet:
    present, labels = np.unique(read.labels[rows], return_inverse=True)
    names = tuple(read.label_names[label] for label in present)
    return ImageSet(read.embeddings[rows], labels.astype(np.int64), names)
