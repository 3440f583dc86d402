"""Read the members of zip and tar files where they lie. Needs no torch.

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
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from dml_bench.data.cache import cache_folder
from dml_bench.errors import DataError

LARGEST_RATIO = 200
"""How many times its own size an archive may expand to: images are compressed already."""

LARGEST_MEMBER = 1 << 30
ALWAYS_ALLOWED = 64 << 20
"""Bytes that any archive may expand to."""

Members = dict[str, tuple[int, ...]]
"""Names and stamps: of a zip file's members size and CRC, of a tar file's size, time and the time of the file."""

Fetch = Callable[[str], bytes]


def is_zip(path: Path) -> bool:
    """Whether a file is a zip file, or claims to be one by its name."""
    return zipfile.is_zipfile(path) or path.suffix.lower() == ".zip"


def open_zip(path: Path) -> tuple[Members, Fetch]:
    """Return the members of a zip file, and what gives the bytes of one, its CRC checked.

    Raises:
        DataError: if it expands to far more than its size, or holds a link, a name that leads out of it, or one twice.
    """
    members: Members = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            _check_name(path, info.filename, members)
            if (info.external_attr >> 16) & 0o170000 == 0o120000:
                raise DataError(f"{path}: the member '{info.filename}' is a link; links are not followed")
            if not info.is_dir():
                members[info.filename] = (info.file_size, info.CRC)
    _check_sizes(path, members)
    return members, partial(_read_zip, path)


def open_tar(path: Path) -> tuple[Members, Fetch]:
    """Return the members of a tar file, and what gives the bytes of one.

    Raises:
        DataError: as for a zip file, and if a member is a device, has holes or is cut off.
        OSError, ValueError: if it is no tar file or damaged.
    """
    members: Members = {}
    pieces: dict[str, tuple[int, int]] = {}
    changed = path.stat().st_mtime_ns
    try:
        plain = _decompressed(path)
        with tarfile.open(plain, "r:") as archive:
            for info in archive:
                name = info.name.removeprefix("./")
                _check_name(path, name, members)
                if info.isdir():
                    continue
                if not info.isreg():
                    raise DataError(f"{path}: the member '{name}' is a link or a device; only files are read")
                if info.issparse():
                    raise DataError(f"{path}: the member '{name}' has holes; pack it without --sparse")
                members[name] = (info.size, int(info.mtime), changed)
                pieces[name] = (info.offset_data, info.size)
    except tarfile.TarError as error:
        raise OSError(f"not a tar file: {error}") from error
    _check_sizes(path, members, plain.stat().st_size)
    return members, partial(_read_tar, plain, pieces)


def _read_zip(path: Path, name: str) -> bytes:
    archive = _opened(path)
    data, size = archive.read(name), archive.getinfo(name).file_size
    if len(data) != size:
        raise EOFError(f"it has {len(data):,} bytes, not {size:,}")
    return data


def _read_tar(plain: Path, pieces: Mapping[str, tuple[int, int]], name: str) -> bytes:
    start, size = pieces[name]
    with plain.open("rb") as file:
        file.seek(start)
        data = file.read(size)
    if len(data) < size:
        raise EOFError("the archive ends before it does")
    return data


def _check_name(path: Path, name: str, seen: Mapping[str, Any]) -> None:
    if not name:
        raise DataError(f"{path}: a member has no name")
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
    hidden = plain.parent / f".{name}.{uuid.uuid4().hex}.part"
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
