"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32 x 32 pixels, in pickles that are read and not executed."""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from dml_bench.data.archive import find_below, places
from dml_bench.data.arrays import SplitRule, every, split_arrays
from dml_bench.data.dataset import DATASETS, Images, Labels, Split
from dml_bench.data.listing import Source
from dml_bench.data.sources import open_source, top_of
from dml_bench.errors import DataError

MOST_TUPLES = 10_000
"""In one pickle; a deeper one, as a key, would overflow the stack. A batch has a dozen."""

Size = Annotated[int, Field(ge=8, le=256)]


@DATASETS.register("cifar10")
def cifar10(root: Path | None, /, *, split: SplitRule = "class_disjoint", image_size: Size = 32) -> Split:
    """Read CIFAR-10: airplane, automobile, bird, cat and deer to train, five other classes to test, 30,000 images each.

    Looks below ``root`` for ``cifar-10-python.tar.gz`` or the folder ``cifar-10-batches-py``. The images of both
    official halves are taken; ``split: official_closed`` keeps these halves and all classes on both sides: another
    protocol. Other sizes than 32 are made with Lanczos's filter.

    Raises:
        DataError: if files are missing or damaged, hold anything but arrays and plain values, or do not hold 50,000 and
            10,000 images.

    Source:
        Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """
    source = _open(root, ("cifar10", "cifar-10", "."), "cifar-10-python", "cifar-10-batches-py")
    top = top_of(source, "batches.meta")
    names = _texts(source, f"{top}batches.meta", "label_names", 10)
    train = _half(source, [f"{top}data_batch_{i}" for i in range(1, 6)], "labels", 10, 50_000)
    test = _half(source, [f"{top}test_batch"], "labels", 10, 10_000)
    return split_arrays("cifar10", [train[:2], test[:2]], names, split, image_size)


@DATASETS.register("cifar100")
def cifar100(root: Path | None, /, *, split: SplitRule = "class_disjoint", image_size: Size = 32) -> Split:
    """Read CIFAR-100: the first 50 classes by name to train, the other 50 to test, 30,000 images each.

    Looks below ``root`` for ``cifar-100-python``, a folder or tar file. The images of both official halves are taken;
    ``split: official_closed`` keeps these halves and all classes on both sides: another protocol. Super-classes are
    the 20 coarse classes. Other sizes than 32 are made with Lanczos's filter.

    Raises:
        DataError: if files are missing or damaged, hold anything but arrays and plain values, or do not hold 50,000 and
            10,000 images.

    Source:
        Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """
    source = _open(root, ("cifar100", "cifar-100", "."), "cifar-100-python", "cifar-100-python")
    top = top_of(source, "meta")
    names = _texts(source, f"{top}meta", "fine_label_names", 100)
    train = _half(source, [f"{top}train"], "fine_labels", 100, 50_000)
    test = _half(source, [f"{top}test"], "fine_labels", 100, 10_000)
    if train[2] is None:
        raise DataError(f"{source.path}: train must hold 50,000 'coarse_labels'")
    supers = np.zeros(100, dtype=np.int64)
    supers[train[1]] = train[2]
    return split_arrays("cifar100", [train[:2], test[:2]], names, split, image_size, supers)


def load_plain(data: bytes, where: str) -> Any:
    """Unpickle bytes that hold nothing but containers, numbers, texts and arrays of bytes; call nothing else.

    Texts of Python 2 are read as Latin-1. Arrays are found where they stand alone or in a dictionary. Memory stays in
    proportion to ``data``: what announces more than there is, or repeats itself, is refused.

    Raises:
        DataError: naming ``where`` and what else the pickle asks for, or if it is damaged.
    """
    try:
        _check_opcodes(data)
        content = _Plain(data).load()
        if isinstance(content, dict):
            return {key: _unwrapped(value) for key, value in content.items()}
        return _unwrapped(content)
    except _ForbiddenError as error:
        raise DataError(
            f"{where}: refused: it asks for {error}, and only arrays of bytes and plain values are read"
        ) from error
    except _DAMAGE as error:
        raise DataError(f"{where}: not a readable pickle: {error}") from error


_DAMAGE = (
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError),
    *(MemoryError, RecursionError),
)


def _check_opcodes(data: bytes) -> None:
    """Refuse what would have Python take memory, or go deep, out of proportion; lengths are checked by ``genops``."""
    tuples = 0
    for code, value, _ in pickletools.genops(data):
        tuples += code.name.startswith("TUPLE")
        if code.name.endswith("PUT") and int(value or 0) > len(data):
            raise pickle.UnpicklingError(f"{len(data)} bytes number their {value}th object")
        if tuples > MOST_TUPLES:
            raise pickle.UnpicklingError(f"more than {MOST_TUPLES:,} tuples")


class _ForbiddenError(Exception):
    """A pickle that names something to be imported."""


class _Array:
    """Stands in for a numpy array while its pickle is read; ``encode`` turns a text of Python 2 into bytes."""

    def __init__(self, encode: Callable[[str], bytes]) -> None:
        self._encode = encode

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, raw = state
        if not isinstance(kind, _Kind):
            raise pickle.UnpicklingError("an array without a type")
        data = self._encode(raw) if isinstance(raw, str) else raw
        array = np.frombuffer(data, dtype=np.uint8)
        self.array: npt.NDArray[np.uint8] = array.reshape(shape, order="F" if fortran else "C")


class _Kind:
    """Stands in for the type of an array's elements, which must be bytes."""

    def __init__(self, code: str, *_: object) -> None:
        if code not in ("u1", "|u1"):
            raise pickle.UnpicklingError(f"an array of '{code}'; only bytes, 'u1', are read")

    def __setstate__(self, state: object) -> None:
        """Take what a type of bytes has nothing of: byte order, fields, alignment."""


class _Plain(pickle.Unpickler):
    """Finds five names, none of which is what it is called; each is made anew, so that a pickle can change none."""

    def __init__(self, data: bytes) -> None:
        super().__init__(BytesIO(data), encoding="latin1")
        self._left = 2 * len(data)

    def find_class(self, module: str, name: str) -> Any:
        allowed: dict[tuple[str, str], Any] = {
            ("numpy", "ndarray"): lambda *_: _Array(self._encode),
            ("numpy", "dtype"): lambda *options: _Kind(*options),
            ("_codecs", "encode"): lambda *text: self._encode(*text),
        }
        for core in ("numpy.core", "numpy._core"):
            allowed[f"{core}.multiarray", "_reconstruct"] = lambda *_: _Array(self._encode)
            allowed[f"{core}.numeric", "_frombuffer"] = lambda *parts: self._from_buffer(*parts)
        if (module, name) not in allowed:
            raise _ForbiddenError(f"{module}.{name}")
        return allowed[module, name]

    def _encode(self, text: str, encoding: str = "latin1") -> bytes:
        """Stand in for what Python 3 writes for bytes by protocol 2."""
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"bytes in the encoding '{encoding}'; only 'latin1' is read")
        self._spend(text)
        return text.encode("latin1")

    def _from_buffer(self, data: bytes | bytearray, kind: _Kind, shape: tuple[int, ...], order: str) -> _Array:
        """Stand in for what numpy 2 writes by protocol 5."""
        self._spend(data)
        array = _Array(self._encode)
        array.__setstate__((1, shape, kind, order == "F", bytes(data)))
        return array

    def _spend(self, copied: str | bytes | bytearray) -> None:
        """Refuse a pickle that has one text copied again and again."""
        self._left -= len(copied)
        if self._left < 0:
            raise pickle.UnpicklingError("it expands to more than twice its size")


def _unwrapped(value: Any) -> Any:
    return value.array if isinstance(value, _Array) else value


def _open(root: Path | None, folders: Sequence[str], packed: str, unpacked: str) -> Source:
    looked = places(root, folders, unpacked)
    path = find_below(looked, unpacked) or find_below(looked, packed)
    if path is None:
        raise DataError(f"{packed}.tar.gz or the folder {unpacked} is in none of: {', '.join(map(str, looked))}")
    return open_source(path)


def _load(source: Source, name: str) -> dict[str, Any]:
    (data,) = source.read([name])
    content = load_plain(data, f"{source.path / name}")
    if not isinstance(content, dict):
        raise DataError(f"{source.path / name}: must hold a dictionary, not a {type(content).__name__}")
    return content


def _texts(source: Source, name: str, key: str, count: int) -> tuple[str, ...]:
    names = _load(source, name).get(key)
    if not isinstance(names, list) or len(names) != count or not all(isinstance(n, str) for n in names):
        raise DataError(f"{source.path / name}: '{key}' must be a list of {count} names")
    return tuple(names)


def _half(
    source: Source, files: Sequence[str], key: str, classes: int, count: int
) -> tuple[Images, Labels, Labels | None]:
    """Return images, labels and coarse labels of some files, in this order."""
    images, labels, coarse = [], [], []
    for name, content in zip(files, every([partial(_load, source, name) for name in files]), strict=True):
        data = content.get("data")
        if not isinstance(data, np.ndarray) or data.shape[1:] != (3072,) or not isinstance(content.get(key), list):
            raise DataError(f"{source.path / name}: must hold 'data' of 3,072 bytes a row, and a list '{key}'")
        images.append(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        labels += _numbers(content[key], len(data), classes, f"{source.path / name}: '{key}'")
        if "coarse_labels" in content:
            coarse += _numbers(content["coarse_labels"], len(data), 20, f"{source.path / name}: 'coarse_labels'")
    if len(labels) != count:
        raise DataError(f"{source.path}: must hold {count:,} images in {', '.join(files)}, not {len(labels):,}")
    supers = np.array(coarse, dtype=np.int64) if len(coarse) == count else None
    return np.concatenate(images), np.array(labels, dtype=np.int64), supers


def _numbers(found: Any, count: int, below: int, where: str) -> list[int]:
    right = isinstance(found, list) and len(found) == count
    if not right or not all(isinstance(n, int) and 0 <= n < below for n in found):
        raise DataError(f"{where} must be {count} numbers from 0 to {below - 1}")
    return list(found)
