"""Embeddings that someone computed elsewhere, from a file of any usual format, read safely.

A file names its parts ``embeddings`` (N, D), ``labels`` (N,), and if it likes ``query``, ``gallery`` and ``train`` (N,)
and ``paths`` (N,); no other name is guessed at. Tables have the columns of ``table_files``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Int64, Num

from dml_bench.data.array_files import read_npy, read_npz, read_pt
from dml_bench.data.label_files import check_file, encoded, named_in_errors, order_of, read_labels
from dml_bench.data.table_files import read_delimited, read_parquet
from dml_bench.errors import DataError

Mask = npt.NDArray[np.bool_]
NAMES = ("embeddings", "labels", "query", "gallery", "train", "paths")
TABLES = (".csv", ".tsv", ".parquet")
SUFFIXES = (".npz", ".npy", ".pt", ".pth", *TABLES)


@dataclass(frozen=True)
class EmbeddingFile:
    """What a file holds. Values are not looked at: that they are finite is for the evaluation to check.

    ``embeddings`` may be a read-only memory map, of any real type of at most 8 bytes, in native byte order.
    ``labels`` are codes; ``label_names[code]`` is what the file says (``7``, ``7.0`` and ``"7"`` are one class), in the
    order of the numbers, then of the texts. ``query`` and ``gallery`` are both there or both None; a row may be both,
    or neither and then takes no part. ``train`` marks rows to learn from, which are in neither; where it is alone, all
    other rows are both.
    """

    embeddings: Num[np.ndarray, "N D"]
    labels: Int64[np.ndarray, " N"]
    label_names: tuple[str, ...]
    query: Bool[np.ndarray, " N"] | None = None
    gallery: Bool[np.ndarray, " N"] | None = None
    train: Bool[np.ndarray, " N"] | None = None
    paths: tuple[str, ...] | None = None


def read_embeddings(path: Path, *, labels: Path | None = None, split_column: str | None = None) -> EmbeddingFile:
    """Read embeddings and their labels; nothing in the file is executed.

    ``.npy``, and ``.npz`` as ``np.savez`` writes it, are memory-mapped and may be larger than memory.

    Args:
        path: ``.npz``, ``.npy``, ``.pt``, ``.pth``, ``.csv``, ``.tsv`` or ``.parquet``.
        labels: a file of labels alone, in the order of the rows; it wins over labels inside ``path``.
        split_column: of a table, the column that says query, gallery, both or none; ``split`` if None and there.

    Raises:
        DataError: if a file is missing, damaged, or says something else than the above; the text names the file.
    """
    check_file(path, SUFFIXES)
    if split_column is not None and path.suffix.lower() not in TABLES:
        raise DataError(f"{path}: has no columns, so no split column {split_column!r}; it takes masks query, gallery")
    with named_in_errors(path):
        found = _parts(path, split_column)
    if "embeddings" not in found:
        raise DataError(f"{path}: no 'embeddings', only {', '.join(found)}; names that are read: {', '.join(NAMES)}")
    embeddings = _checked_embeddings(path, found["embeddings"])
    if labels is None and "labels" not in found:
        raise DataError(f"{path}: no labels; it takes {_where_labels(path)}a file of labels (--labels FILE)")
    codes, names = encoded(labels or path, read_labels(labels) if labels else found["labels"], len(embeddings))
    query, gallery, train = _masks(path, found, len(embeddings))
    return EmbeddingFile(embeddings, codes, names, query, gallery, train, _paths(path, found, len(embeddings)))


def share_labels(one: EmbeddingFile, other: EmbeddingFile) -> tuple[EmbeddingFile, EmbeddingFile]:
    """Return both files with one list of label names, so that a code means the same class in either."""
    names = sorted({*one.label_names, *other.label_names}, key=order_of)
    code = {name: i for i, name in enumerate(names)}

    def recoded(file: EmbeddingFile) -> EmbeddingFile:
        table = np.array([code[name] for name in file.label_names], np.int64)
        return replace(file, labels=table[file.labels], label_names=tuple(names))

    return recoded(one), recoded(other)


def _parts(path: Path, split_column: str | None) -> dict[str, Any]:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return {"embeddings": read_npy(path)}
    if suffix == ".npz":
        return dict(read_npz(path, NAMES))
    if suffix in (".pt", ".pth"):
        return read_pt(path, NAMES)
    return read_parquet(path, split_column) if suffix == ".parquet" else read_delimited(path, split_column)


def _checked_embeddings(path: Path, value: Any) -> npt.NDArray[Any]:
    array = value if isinstance(value, np.ndarray) else np.empty(0, object)
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise DataError(f"{path}: embeddings hold {array.dtype}; allowed: real numbers of at most 64 bits")
    if array.ndim != 2 or 0 in array.shape:
        raise DataError(f"{path}: embeddings have shape {array.shape}; allowed: (items, dimensions), at least (1, 1)")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _masks(path: Path, found: dict[str, Any], items: int) -> tuple[Mask | None, Mask | None, Mask | None]:
    """Return (query, gallery, train), those that the file has or implies."""
    train = _mask(path, "train", found["train"], items) if "train" in found else None
    given = [name for name in ("query", "gallery") if name in found]
    if train is not None and train.all() and len(given) < 2:
        raise DataError(f"{path}: every row is to train; allowed: some to test")
    if not given:
        return (None, None, None) if train is None else (~train, ~train, train)
    if len(given) == 1:
        raise DataError(f"{path}: has the mask {given[0]!r} alone; allowed: both query and gallery, or neither")
    query, gallery = (_mask(path, name, found[name], items) for name in given)
    if train is not None and (both := train & (query | gallery)).any():
        raise DataError(f"{path}: row {np.flatnonzero(both)[0]} is to train and to test; allowed: one of them")
    return query, gallery, train


def _mask(path: Path, name: str, value: Any, items: int) -> Mask:
    mask = np.asarray(value)
    if mask.shape != (items,) or mask.dtype.kind not in "biu" or not np.isin(mask, (0, 1)).all():
        raise DataError(
            f"{path}: {name} is {mask.dtype} of shape {mask.shape}; allowed: True and False, or 1 and 0, for each of "
            f"the {items} rows (not a list of row numbers)"
        )
    if not mask.any():
        raise DataError(f"{path}: no row is in the {name}")
    return mask.astype(bool)


def _paths(path: Path, found: dict[str, Any], items: int) -> tuple[str, ...] | None:
    if "paths" not in found:
        return None
    values = found["paths"] if isinstance(found["paths"], list) else found["paths"].ravel().tolist()
    if len(values) != items or not all(isinstance(value, str) for value in values):
        raise DataError(f"{path}: paths are not one text for each of the {items} embeddings")
    return tuple(values)


def _where_labels(path: Path) -> str:
    if path.suffix.lower() == ".npy":
        return ""
    return "a column 'label', or " if path.suffix.lower() in TABLES else "a key 'labels', or "
