"""Labels from files: whole numbers or texts, encoded as the codes of a sorted list of names."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dml_bench.data.array_files import read_npy, read_npz, read_pt
from dml_bench.data.table_files import read_label_column
from dml_bench.errors import DataError

SUFFIXES = (".npy", ".npz", ".pt", ".pth", ".csv", ".tsv", ".txt")
_INTEGER = re.compile(r"-?\d+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?nan|[+-]?inf", re.IGNORECASE)


def read_labels(path: Path) -> Any:
    """Read a file of labels alone: an array, the key or column ``labels``/``label``, or a text with one on each line.

    Raises:
        DataError: if the file is missing, damaged, or of another kind.
    """
    check_file(path, SUFFIXES)
    with named_in_errors(path):
        suffix = path.suffix.lower()
        if suffix == ".npy":
            return read_npy(path)
        if suffix == ".npz":
            return read_npz(path, ("labels",))["labels"]
        if suffix in (".pt", ".pth"):
            return read_pt(path, ("labels",))["labels"]
        if suffix == ".txt":
            return [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().split("\n")]
        return read_label_column(path)


def encoded(path: Path, value: Any, items: int) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Return (codes, names) of labels that are integers, whole floats or texts."""
    array = _plain_labels(path, value)
    if array.shape != (items,):
        hint = "; the first line of a table is its header" if path.suffix.lower() in (".csv", ".tsv") else ""
        raise DataError(f"{path}: labels have shape {array.shape}; allowed: ({items},), one for each embedding{hint}")
    values, inverse = np.unique(array, return_inverse=True)
    names = [str(value) for value in values.tolist()]
    order = sorted(range(len(names)), key=lambda i: order_of(names[i]))
    ranks = np.empty(len(names), np.int64)
    ranks[order] = np.arange(len(names))
    return ranks[inverse], tuple(names[i] for i in order)


def _plain_labels(path: Path, value: Any) -> npt.NDArray[Any]:
    """Return labels as an array of integers or of texts without a gap."""
    array = np.asarray(_of_one_type(path, value) if isinstance(value, list) else value)
    if array.dtype.kind == "S":
        try:
            array = np.char.decode(array, "utf-8")
        except UnicodeDecodeError:
            raise DataError(f"{path}: labels hold bytes that are not UTF-8") from None
    if array.dtype.kind == "U" and array.size:
        if (array == "").any():
            raise DataError(f"{path}: row {_first(array == '')} has no label")
        array = _numbers_written_out(array)
    if array.dtype.kind == "f":
        if (wrong := ~(np.isfinite(array) & (array == np.floor(array)) & (np.abs(array) < 2**53))).any():
            raise DataError(f"{path}: row {_first(wrong)} has label {array[wrong][0]}; allowed: whole numbers, texts")
        array = array.astype(np.int64)
    if array.dtype.kind not in "iuU":
        raise DataError(f"{path}: labels hold {array.dtype}; allowed: whole numbers, texts")
    return array


def _of_one_type(path: Path, values: list[Any]) -> list[Any]:
    """Check that a list holds only texts or only numbers, which numpy would otherwise mix without a word."""
    for row, value in enumerate(values):
        if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
            raise DataError(f"{path}: row {row} has no label")
        kinds = str if isinstance(values[0], str) else (int, float, np.number)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise DataError(f"{path}: row {row} has label {value!r}; allowed: whole numbers or texts, and one of them")
    return values


def _numbers_written_out(texts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return texts such as ``3.0`` or ``1e2`` as floats if all are numbers; those such as ``007`` stay as they are."""
    words = texts.ravel().tolist()
    if all(map(_INTEGER.fullmatch, words)) or not all(map(_NUMBER.fullmatch, words)):
        return texts
    return texts.astype(np.float64)


def order_of(name: str) -> tuple[int, int, str]:
    """Sort whole numbers of 64 bits by value, then texts, and with them longer runs of digits."""
    return (0, int(name), name) if _INTEGER.fullmatch(name) and len(name) <= 20 else (1, 0, name)


def check_file(path: Path, suffixes: tuple[str, ...]) -> None:
    """Check that there is a file, not an empty one, of a kind that is read."""
    if not path.is_file():
        raise DataError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    if path.suffix.lower() not in suffixes:
        raise DataError(f"{path}: unknown kind of file {path.suffix!r}; allowed: {', '.join(suffixes)}")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")


@contextlib.contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """Turn whatever a parser meets in a damaged or hostile file into an error that names the file."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        what = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: damaged, or not a {path.suffix} file: {what}") from error


def _first(wrong: npt.NDArray[np.bool_]) -> int:
    return int(np.flatnonzero(wrong)[0])
