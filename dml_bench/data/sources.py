"""Read the files of a folder, zip or tar file alike, where they lie. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dml_bench.data.archive import naming
from dml_bench.data.listing import Source
from dml_bench.data.packed import is_zip, open_tar, open_zip
from dml_bench.errors import DataError

Stamps = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Files:
    """The files of a folder, zip or tar file.

    Args:
        path: of the folder or archive.
        stamps: of each file that is no stray: its size, and its time of change or its checksum.
        strays: files that are passed over.
        fetch: gives the bytes of a file; several threads and processes may call it at once.
    """

    path: Path
    stamps: Stamps = field(repr=False)
    strays: tuple[str, ...] = field(repr=False)
    fetch: Callable[[str], bytes] = field(repr=False, compare=False)

    def read(self, names: Sequence[str]) -> Iterator[bytes]:
        """Yield the bytes of each named file.

        Raises:
            DataError: naming the file that is not there or cannot be read.
        """
        for name in names:
            with naming(self.path / name):
                if name not in self.stamps:
                    raise FileNotFoundError("there is no such file")
                data = self.fetch(name)
            yield data


@dataclass(frozen=True)
class Joined:
    """Several sources as one; the files of each lie below the name it is mounted at."""

    path: Path
    mounts: Mapping[str, Source]

    @cached_property
    def stamps(self) -> Stamps:
        """Every file of every source, with its stamp."""
        return {f"{at}/{name}": stamp for at, source in self.mounts.items() for name, stamp in source.stamps.items()}

    @cached_property
    def strays(self) -> tuple[str, ...]:
        """What every source passes over."""
        return tuple(f"{at}/{name}" for at, source in self.mounts.items() for name in source.strays)

    def read(self, names: Sequence[str]) -> Iterator[bytes]:
        """Yield the bytes of each named file."""
        for at, group in groupby(names, key=lambda name: name.split("/", 1)[0]):
            if at not in self.mounts:
                raise DataError(f"{self.path / at}: there is no such file or folder")
            yield from self.mounts[at].read([name[len(at) + 1 :] for name in group])


def open_source(path: Path) -> Source:
    """List the files of a folder, zip or tar file.

    Raises:
        DataError: if it is none of these, is damaged, expands to far more than its size, or holds a link, a name that
            leads out of it, or one name twice.
    """
    with naming(path):
        if path.is_dir():
            return Files(path, *_sorted_out(_folder_files(path)), partial(_read_file, path))
        if not path.exists():
            raise FileNotFoundError("there is no such file or folder")
        members, fetch = open_zip(path) if is_zip(path) else open_tar(path)
        return Files(path, *_sorted_out(members), fetch)


def only(path: Path, names: Sequence[str]) -> Files:
    """Return just the named files of a folder, those that are there.

    Args:
        path: of the folder.
        names: relative to ``path``, or absolute.
    """
    stats = {name: _stat(path / name) for name in names}
    stamps = {name: (s.st_size, s.st_mtime_ns) for name, s in stats.items() if s}
    return Files(path, stamps, (), partial(_read_file, path))


def _read_file(folder: Path, name: str) -> bytes:
    return (folder / name).read_bytes()


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):
        return None


def top_of(source: Source, marker: str) -> str:
    """Return the folder, with its ``/``, that holds the file ``marker``, the least deep if there are several.

    Raises:
        DataError: if there is no such file.
    """
    found = [name for name in source.stamps if name == marker or name.endswith("/" + marker)]
    if not found:
        raise DataError(f"{source.path}: the file {marker} is not in it")
    return min(found, key=lambda name: (name.count("/"), name)).removesuffix(marker)


def read_text(source: Source, name: str) -> str:
    """Return the text of a file, UTF-8.

    Raises:
        DataError: naming the file, if it is not there or is no text.
    """
    if name not in source.stamps:
        raise DataError(f"{source.path / name}: there is no such file")
    (data,) = source.read([name])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{source.path / name}: not UTF-8 text: {error}") from error


def read_table(source: Source, name: str, columns: int, *, header: int = 0) -> list[list[str]]:
    """Return the rows of a text file in columns parted by blanks; the last column may hold blanks.

    Args:
        source: where the file is.
        name: of the file.
        columns: how many there are.
        header: lines to skip.

    Raises:
        DataError: naming file and line of a row with fewer columns.
    """
    rows = []
    for number, line in enumerate(read_text(source, name).splitlines()[header:], start=header + 1):
        if row := line.split(None, columns - 1):
            if len(row) < columns:
                raise DataError(f"{source.path / name}:{number}: must have {columns} columns, not {len(row)}")
            rows.append([*row[:-1], row[-1].rstrip()])
    return rows


def whole_numbers(values: Sequence[str | int], where: str) -> npt.NDArray[np.int64]:
    """Return texts as integers.

    Raises:
        DataError: naming ``where`` and the first that is none.
    """
    try:
        return np.array([int(value) for value in values], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{where}: must be whole numbers: {error}") from error


def read_boxes(
    source: Source, name: str, keys: Sequence[str], *, columns: int = 5, header: int = 0
) -> npt.NDArray[np.float64]:
    """Return the last four columns of a text file, ``(N, 4)``, in the order of ``keys``, its first column.

    Raises:
        DataError: naming the file and a key that is not in it, or what is no number.
    """
    rows = {row[0]: row[-4:-1] + row[-1].split() for row in read_table(source, name, columns, header=header)}
    if lost := [key for key in keys if key not in rows]:
        raise DataError(f"{source.path / name}: {len(lost)} images are not in it, such as {lost[0]}")
    try:
        return np.array([[float(value) for value in rows[key]] for key in keys], dtype=np.float64).reshape(-1, 4)
    except ValueError as error:
        raise DataError(f"{source.path / name}: boxes must be four numbers: {error}") from error


def class_names(names: Mapping[int, str], classes: Sequence[int], where: str) -> tuple[str, ...]:
    """Return the names of classes.

    Raises:
        DataError: naming ``where`` and a class without a name.
    """
    if lost := [number for number in classes if not names.get(number)]:
        raise DataError(f"{where}: the class {lost[0]} has no name in it")
    return tuple(names[number] for number in classes)


def is_stray(name: str) -> bool:
    """Whether an operating system, and not the authors, put this file here."""
    parts = name.split("/")
    return parts[-1] in (".DS_Store", "Thumbs.db", "desktop.ini") or any(
        part.startswith("._") or part == "__MACOSX" for part in parts
    )


def _sorted_out(files: Mapping[str, tuple[int, ...]]) -> tuple[Stamps, tuple[str, ...]]:
    names = sorted(files)
    return {name: files[name] for name in names if not is_stray(name)}, tuple(filter(is_stray, names))


def _folder_files(path: Path) -> dict[str, tuple[int, ...]]:
    """Walk a folder through links, each real folder once."""
    files: dict[str, tuple[int, ...]] = {}
    been: set[tuple[int, int]] = set()
    for folder, folders, names in os.walk(path, onerror=_raise, followlinks=True):
        stat = os.stat(folder)  # noqa: PTH116
        if (stat.st_dev, stat.st_ino) in been:
            folders.clear()
            continue
        been.add((stat.st_dev, stat.st_ino))
        below = os.path.relpath(folder, path)
        prefix = "" if below == "." else below.replace(os.sep, "/") + "/"
        for name in names:
            if is_stray(name):  # perhaps not even readable
                files[prefix + name] = ()
                continue
            stat = os.stat(os.path.join(folder, name))  # noqa: PTH116, PTH118  a Path each would take most of the time
            files[prefix + name] = (stat.st_size, stat.st_mtime_ns)
    return files


def _raise(error: OSError) -> None:
    raise error  # os.walk would skip an unreadable folder without a word
