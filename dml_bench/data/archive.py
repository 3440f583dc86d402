"""Find downloaded data, and name what cannot be read. Needs no torch."""

from __future__ import annotations

import contextlib
import csv
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from dml_bench.errors import DataError
from dml_bench.recipe.weights import ROOT_VARIABLE

TAR_ENDINGS = (".tgz", ".tar.gz", ".tar", ".tar.bz2", ".tar.xz")

HOW = f"Name the folder by data_root in the recipe, by --data-root, or by the environment variable {ROOT_VARIABLE}."


def find(root: Path | None, folders: Sequence[str], name: str) -> Path:
    """Return the file or folder of a data set: the first of ``folders`` below ``root`` that has one.

    In each, ``name.zip`` comes first, then the folder ``name``, then ``name`` with an ending of a tar file. ``root``
    may be the folder ``name`` itself.

    Args:
        root: folder of the downloaded data sets; None takes it from the environment variable ``DML_BENCH_DATA``.
        folders: where to look, relative to ``root``, in this order.
        name: of the file or folder, without the ending.

    Raises:
        DataError: saying what is missing, where it was looked for and how to name another root.
    """
    looked = places(root, folders, name)
    found = find_below(looked, name)
    if found is None:
        listed = ", ".join(str(place) for place in looked)
        raise DataError(f"{name}.zip (or the folder {name}) is in none of: {listed}. {HOW}")
    return found


def places(root: Path | None, folders: Sequence[str], name: str) -> list[Path]:
    """Return where to look for ``name``.

    Raises:
        DataError: if no folder of data sets is named, or there is no such folder.
    """
    if root is None:
        if not os.environ.get(ROOT_VARIABLE):
            raise DataError(f"{name}.zip (or the folder {name}) is needed, but no folder of data sets is named. {HOW}")
        root = Path(os.environ[ROOT_VARIABLE])
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder; {name}.zip is looked for in it. {HOW}")
    return [*([root.parent] if root.name == name else []), *(root / folder for folder in folders)]


def find_below(folders: Sequence[Path], name: str) -> Path | None:
    """Return the first file or folder ``name``, with one of the endings of archives, in ``folders``."""
    for folder in folders:
        if (folder / f"{name}.zip").is_file():
            return folder / f"{name}.zip"
        if (folder / name).is_dir():
            return folder / name
        for ending in TAR_ENDINGS:
            if (folder / f"{name}{ending}").is_file():
                return folder / f"{name}{ending}"
    return None


def decode_grey(data: bytes, where: str, size: tuple[int, int]) -> Image.Image:
    """Decode a PNG of the given width and height to an 8-bit grey image.

    Raises:
        DataError: naming ``where``, if the bytes are no such image.
    """
    try:
        with Image.open(BytesIO(data), formats=("PNG",)) as image:
            found = image.size
            grey = image.convert("L") if found == size else None
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        zlib.error,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        raise DataError(f"{where}: not a readable PNG image: {error}") from error
    if grey is None:
        raise DataError(f"{where}: must be {size[0]} x {size[1]} pixels, not {found[0]} x {found[1]}")
    return grey


_UNREADABLE = (
    *(OSError, EOFError, csv.Error, zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, struct.error),
    *(ValueError, IndexError, OverflowError),  # of zipfile and tarfile, for numbers and names that cannot be
    *(RuntimeError, NotImplementedError),  # encrypted; unknown compression
)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn whatever the standard library says about an unreadable file into a DataError that names it."""
    try:
        yield
    except _UNREADABLE as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
