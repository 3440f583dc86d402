"""MNIST and Fashion-MNIST: 70,000 grey images of 28 x 28 pixels in 10 classes, as IDX files."""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from dml_bench.data.archive import naming, places
from dml_bench.data.arrays import SplitRule, every, split_arrays
from dml_bench.data.dataset import DATASETS, Images, Labels, Split
from dml_bench.errors import DataError

HALVES = (("train", 60_000), ("t10k", 10_000))
GARMENTS = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
LARGEST = 1 << 26
"""Bytes that an IDX file may hold, unpacked; the largest one of these sets holds 47,040,016."""

Size = Annotated[int, Field(ge=8, le=256)]


@DATASETS.register("mnist")
def mnist(root: Path | None, /, *, split: SplitRule = "class_disjoint", image_size: Size = 28) -> Split:
    """Read MNIST, handwritten digits: 0 to 4 to train (35,735 images), 5 to 9 to test (34,265).

    Looks below ``root`` for the four IDX files, gzipped or not. The images of both official halves are taken;
    ``split: official_closed`` keeps these halves and all ten classes on both sides: another protocol. One grey channel,
    ink bright on black; other sizes than 28 are made with Lanczos's filter.

    Raises:
        DataError: if files are missing or damaged, or do not hold 60,000 and 10,000 images of 28 x 28 pixels.

    Source:
        LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 86, 1998.
    """
    halves = _halves(root, ("mnist", "MNIST/raw", "MNIST", "."))
    return split_arrays("mnist", halves, tuple("0123456789"), split, image_size)


@DATASETS.register("fashion_mnist")
def fashion_mnist(root: Path | None, /, *, split: SplitRule = "class_disjoint", image_size: Size = 28) -> Split:
    """Read Fashion-MNIST: T-shirt, trouser, pullover, dress, coat to train, five other garments to test, 35,000 each.

    Looks below ``root`` for the four IDX files, gzipped or not. The images of both official halves are taken;
    ``split: official_closed`` keeps these halves and all ten classes on both sides: another protocol. One grey channel,
    the garment bright on black; other sizes than 28 are made with Lanczos's filter.

    Raises:
        DataError: if files are missing or damaged, or do not hold 60,000 and 10,000 images of 28 x 28 pixels.

    Source:
        Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
        arXiv:1708.07747; https://github.com/zalandoresearch/fashion-mnist.
    """
    halves = _halves(root, ("fashion_mnist", "fashion-mnist", "FashionMNIST/raw", "fashion-mnist/data/fashion", "."))
    return split_arrays("fashion_mnist", halves, GARMENTS, split, image_size)


def _halves(root: Path | None, folders: Sequence[str]) -> list[tuple[Images, Labels]]:
    looked = places(root, folders, "train-images-idx3-ubyte")
    place = next((folder for folder in looked if _file(folder, "train-images-idx3")), None)
    if place is None:
        raise DataError(f"train-images-idx3-ubyte(.gz) is in none of: {', '.join(map(str, looked))}")
    return every([partial(_half, place, name, count) for name, count in HALVES])


def _half(place: Path, name: str, count: int) -> tuple[Images, Labels]:
    kinds = (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,)))
    images, labels = every([partial(_array, place, f"{name}-{kind}", shape) for kind, shape in kinds])
    if labels.max() > 9:
        raise DataError(f"{place}/{name}-labels-idx1-ubyte: labels must be 0 to 9, not {labels.max()}")
    return images[..., None], labels.astype(np.int64)


def _array(place: Path, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    path = _file(place, name)
    if path is None:
        raise DataError(f"{place}/{name}-ubyte(.gz): there is no such file")
    array = read_idx(path)
    if array.shape != shape:
        raise DataError(f"{path}: must hold {shape}, not {array.shape}")
    return array


def _file(place: Path, name: str) -> Path | None:
    names = (f"{name}-ubyte", f"{name}-ubyte.gz", f"{name.replace('-idx', '.idx')}-ubyte")
    return next((place / file for file in names if (place / file).is_file()), None)


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read an IDX file of bytes, gzipped or not.

    Raises:
        DataError: naming the file, if it is damaged, cut off, longer than it says or no IDX file of bytes.
    """
    with naming(path):
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with (gzip.open if packed else open)(path, "rb") as file:
            data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise DataError(f"{path}: holds more than {LARGEST:,} bytes")
    if len(data) < 4 or data[:3] != b"\0\0\x08" or not 1 <= data[3] <= 4 or len(data) < 4 + 4 * data[3]:
        raise DataError(f"{path}: not an IDX file of bytes")
    shape = struct.unpack_from(f">{data[3]}I", data, 4)
    start = 4 + 4 * data[3]
    if len(data) - start != math.prod(shape):
        raise DataError(
            f"{path}: must hold {math.prod(shape):,} bytes after its header, but {len(data) - start:,} follow"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)
