"""Read the files of a folder, zip or tar file alike, where they lie. Needs no torch.

Nothing is unpacked: a name that leads out of an archive could do no harm, and is refused all the same, as are links.
A compressed tar file cannot be read from the middle, so it is decompressed once, to one tar file in the cache folder.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import tarfile
import threading
import uuid
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from dml_bench.data.archive import naming
from dml_bench.data.cache import cache_folder
from dml_bench.data.listing import Source
from dml_bench.errors import DataError

LARGEST_RATIO = 200
"""How many times its own size an archive may expand to: images are compressed already."""

LARGEST_MEMBER = 1 << 30
ALWAYS_ALLOWED = 64 << 20
"""Bytes that any archive may expand to."""

Stamps = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Folder:
    """The files below a folder, links followed; a file's stamp is its size and time of change."""

    path: Path
    stamps: Stamps = field(repr=False)
    strays: tuple[str, ...] = field(repr=False)

    def read(self, names: Sequence[str]) -> Iterator[bytes]:
        """Yield the bytes of each named file.

        Raises:
            DataError: naming the file that cannot be read.
        """
        for name in names:
            with naming(self.path / name):
                data = (self.path / name).read_bytes()
            yield data


@dataclass(frozen=True)
class Zip:
    """The members of a zip file; a member's stamp is its size and CRC."""

    path: Path
    stamps: Stamps = field(repr=False)
    strays: tuple[str, ...] = field(repr=False)

    def read(self, names: Sequence[str]) -> Iterator[bytes]:
        """Yield the bytes of each named member, its CRC checked.

        Raises:
            DataError: naming the member that cannot be read.
        """
        with naming(self.path):
            archive = _opened(self.path)
        for name in names:
            with naming(self.path / name):
                try:
                    data = archive.read(name)
                except KeyError as error:
                    raise OSError("there is no such member") from error
            yield data


@dataclass(frozen=True)
class Tar:
    """The members of a tar file; a member's stamp is its size, its time and that of the file."""

    path: Path
    stamps: Stamps = field(repr=False)
    strays: tuple[str, ...] = field(repr=False)
    plain: Path
    offsets: Mapping[str, int] = field(repr=False)

    def read(self, names: Sequence[str]) -> Iterator[bytes]:
        """Yield the bytes of each named member.

        Raises:
            DataError: naming the member that cannot be read.
        """
        with naming(self.path), self.plain.open("rb") as file:
            for name in names:
                if name not in self.offsets:
                    raise DataError(f"{self.path / name}: cannot be read: there is no such member")
                file.seek(self.offsets[name])
                data = file.read(self.stamps[name][0])
                if len(data) < self.stamps[name][0]:
                    raise DataError(f"{self.path / name}: cannot be read: the archive ends before it does")
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
            return Folder(path, *_sorted_out(_folder_files(path)))
        if not path.exists():
            raise FileNotFoundError("there is no such file or folder")
        if zipfile.is_zipfile(path) or path.suffix.lower() == ".zip":
            return Zip(path, *_sorted_out(_zip_members(path)))
        try:
            plain = _decompressed(path)
            files, offsets = _tar_members(path, plain)
        except (tarfile.TarError, lzma.LZMAError) as error:
            raise OSError(f"not a tar file: {error}") from error
        return Tar(path, *_sorted_out(files), plain, offsets)


def only(path: Path, names: Sequence[str]) -> Folder:
    """Return just the named files of a folder, those that are there.

    Args:
        path: of the folder.
        names: relative to ``path``, or absolute.
    """
    stats = {name: _stat(path / name) for name in names}
    return Folder(path, {name: (s.st_size, s.st_mtime_ns) for name, s in stats.items() if s}, ())


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


def whole_numbers(values: Sequence[str], where: str) -> npt.NDArray[np.int64]:
    """Return texts as integers.

    Raises:
        DataError: naming ``where`` and the first that is none.
    """
    try:
        return np.array([int(value) for value in values], dtype=np.int64)
    except ValueError as error:
        raise DataError(f"{where}: must be whole numbers: {error}") from error


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


def _zip_members(path: Path) -> dict[str, tuple[int, ...]]:
    files: dict[str, tuple[int, ...]] = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            _check_name(path, info.filename, files)
            if (info.external_attr >> 16) & 0o170000 == 0o120000:
                raise DataError(f"{path}: the member '{info.filename}' is a link; links are not followed")
            if not info.is_dir():
                files[info.filename] = (info.file_size, info.CRC)
    _check_sizes(path, files)
    return files


def _tar_members(path: Path, plain: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    files: dict[str, tuple[int, ...]] = {}
    offsets: dict[str, int] = {}
    changed = path.stat().st_mtime_ns
    with tarfile.open(plain, "r:") as archive:
        for info in archive:
            name = info.name.removeprefix("./")
            _check_name(path, name, files)
            if info.isdir():
                continue
            if not info.isreg():
                raise DataError(f"{path}: the member '{name}' is a link or a device; only files are read")
            files[name] = (info.size, int(info.mtime), changed)
            offsets[name] = info.offset_data
    _check_sizes(path, files, plain.stat().st_size)
    return files, offsets


def _check_name(path: Path, name: str, seen: Mapping[str, Any]) -> None:
    posix = name.replace("\\", "/")
    if posix.startswith("/") or ".." in PurePosixPath(posix).parts or posix[1:2] == ":":
        raise DataError(f"{path}: the member '{name}' leads out of the archive")
    if name in seen:
        raise DataError(f"{path}: the member '{name}' is there twice")


def _check_sizes(path: Path, files: Mapping[str, tuple[int, ...]], stored: int = 0) -> None:
    allowed = max(ALWAYS_ALLOWED, LARGEST_RATIO * path.stat().st_size)
    total = 0
    for name, (size, *_) in files.items():
        total += size
        if size > LARGEST_MEMBER:
            raise DataError(f"{path}: the member '{name}' has {size:,} bytes; {LARGEST_MEMBER:,} are allowed")
        if stored and size > stored:
            raise DataError(f"{path}: the member '{name}' is cut off")
        if total > allowed:
            raise DataError(
                f"{path}: expands to more than {allowed:,} bytes, {LARGEST_RATIO} times its size; refused at '{name}'"
            )


_handles = threading.local()


def _opened(path: Path) -> zipfile.ZipFile:
    """Return an open zip file of this thread: reading the directory of a large one takes a second."""
    stat = path.stat()
    key = (os.getpid(), path, stat.st_size, stat.st_mtime_ns)
    if getattr(_handles, "key", None) != key:
        if (old := getattr(_handles, "archive", None)) is not None and _handles.key[0] == os.getpid():
            old.close()
        _handles.archive, _handles.key = zipfile.ZipFile(path), key
    archive: zipfile.ZipFile = _handles.archive
    return archive


def _decompressed(path: Path) -> Path:
    """Return the plain tar file of a compressed one, kept in the cache folder; a plain one itself."""
    with path.open("rb") as file:
        magic = file.read(6)
    starts: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
    opener = next((opener for start, opener in starts.items() if magic.startswith(start)), None)
    if opener is None:
        return path
    stat = path.stat()
    name = hashlib.sha256(repr((str(path.resolve()), stat.st_size, stat.st_mtime_ns)).encode()).hexdigest()[:32]
    plain = cache_folder() / f"{name}.tar"
    if plain.is_file():
        return plain
    plain.parent.mkdir(parents=True, exist_ok=True)
    hidden = plain.parent / f".{uuid.uuid4().hex}"
    allowed = max(ALWAYS_ALLOWED, LARGEST_RATIO * stat.st_size)
    try:
        with opener(path) as packed, hidden.open("xb") as out:
            while block := packed.read(1 << 20):
                if out.tell() + len(block) > allowed:
                    raise DataError(f"{path}: expands to more than {allowed:,} bytes, {LARGEST_RATIO} times its size")
                out.write(block)
        hidden.replace(plain)
    finally:
        hidden.unlink(missing_ok=True)
    return plain
