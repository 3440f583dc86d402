"""Decoded images, kept between runs as memory-mapped ``.npy`` files. Needs no torch.

An entry is an index ``<name>.json`` and its arrays ``<name>.<array>.npy``; the name is a digest of the key, which says
what every byte is made of. Files are written under hidden names and published by a rename, arrays before index, so a
killed process leaves nothing half done, and several processes may want the same entry at once.

The index holds a checksum of every block of 1 MiB. Opening an entry compares sizes, and of large arrays the checksums
of 16 blocks drawn at random, so that it takes milliseconds; an array whose time of change is not the one noted is
checked whole, and so is every one by ``verify``. What does not match is built again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from dml_bench.data.locks import lock

Arrays = dict[str, npt.NDArray[Any]]

BLOCK = 1 << 20
"""Bytes of array data under one checksum."""

SAMPLED = 16
"""Blocks that are checked when an unchanged array is opened."""


def cached_images(key: Mapping[str, Any], build: Callable[[], Arrays]) -> Arrays:
    """Return the arrays that ``build`` makes, read-only: from the cache, or built now and kept there.

    A cache folder that cannot be written changes no number: the arrays then live in memory, for this process only.

    Args:
        key: JSON values that decide every byte of the arrays: source files, options, versions of what draws or decodes.
        build: makes the arrays; called only when the cache has no intact entry.
    """
    with contextlib.suppress(RuntimeError):  # there may be no home directory
        if arrays := load(index_of(key)):
            return arrays
    built = build()
    for array in built.values():
        array.flags.writeable = False
    try:
        _store(index_of(key), key, [built])
        return load(index_of(key)) or built
    except (OSError, RuntimeError):
        return built


def cached_rows(key: Mapping[str, Any], rows: Callable[[], Iterable[Arrays]]) -> Arrays:
    """Return arrays that need not fit into memory, read-only: from the cache, or built now, piece after piece.

    One process builds; others that want the same entry wait for it.

    Args:
        key: as for ``cached_images``.
        rows: yields pieces of the arrays, which are joined along their first axis.

    Raises:
        OSError, RuntimeError: if the cache cannot be written.
    """
    index = index_of(key)
    if arrays := load(index):
        return arrays
    index.parent.mkdir(parents=True, exist_ok=True)
    with lock(index.parent / f".{index.stem}.lock"):
        if arrays := load(index):  # another process has built it meanwhile
            return arrays
        for leftover in index.parent.glob(f".{index.stem}.*.part"):  # of a killed process: nobody else has the lock
            leftover.unlink(missing_ok=True)
        _store(index, key, rows())
    arrays = load(index)
    if arrays is None:
        raise OSError(f"{index}: what was written to the cache does not read back; is the disk damaged?")
    return arrays


def cache_folder() -> Path:
    """Return ``$DML_BENCH_CACHE``, else ``$XDG_CACHE_HOME/dml_bench``, else ``~/.cache/dml_bench``.

    Raises:
        RuntimeError: if ``$DML_BENCH_CACHE`` is ``off``, or none of these is set and there is no home directory.
    """
    own = os.environ.get("DML_BENCH_CACHE")
    if own == "off":
        raise RuntimeError("DML_BENCH_CACHE is off")
    if own:
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "dml_bench"


def index_of(key: Mapping[str, Any]) -> Path:
    """Return the index file of the entry with this key."""
    text = json.dumps(key, sort_keys=True, allow_nan=False)
    return cache_folder() / (hashlib.sha256(text.encode()).hexdigest()[:32] + ".json")


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def load(index: Path, *, whole: bool = False) -> Arrays | None:
    """Map the arrays of an entry, or return None if there is no intact one.

    Args:
        index: the entry's index file.
        whole: whether to read and check every byte, instead of a sample of what seems unchanged.
    """
    try:
        known = json.loads(index.read_bytes())
        arrays = {name: _open(index, name, facts, whole) for name, facts in known["arrays"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError):
        return None
    moved = {n: f for n, f in known["arrays"].items() if f["changed"] != _changed(array_file(index, n))}
    if moved:  # copied or touched, and found intact
        with contextlib.suppress(OSError):
            for name, facts in moved.items():
                facts["changed"] = _changed(array_file(index, name))
            _write_index(index, known)
    return arrays or None


def array_file(index: Path, name: str) -> Path:
    """Return the file of one array of an entry."""
    return index.parent / f"{index.stem}.{name}.npy"


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns


def _open(index: Path, name: str, facts: Mapping[str, Any], whole: bool) -> npt.NDArray[Any]:
    """Map one array; raise a ValueError if it is not what the index says."""
    path = array_file(index, name)
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r" if facts["shape"][0] else None)
    start = path.stat().st_size - array.nbytes
    if list(array.shape) != facts["shape"] or array.dtype.str != facts["dtype"] or start != facts["start"]:
        raise ValueError(f"{path}: has another shape than its index says")
    blocks = list(range(len(facts["checksums"])))
    if not whole and facts["changed"] == _changed(path) and len(blocks) > SAMPLED:
        blocks = sorted({0, len(blocks) - 1, *random.sample(blocks, SAMPLED)})
    with path.open("rb") as file:
        for block in blocks:
            file.seek(start + block * BLOCK)
            if zlib.crc32(file.read(BLOCK)) != facts["checksums"][block]:
                raise ValueError(f"{path}: is damaged")
    return array


def _store(index: Path, key: Mapping[str, Any], pieces: Iterable[Arrays]) -> None:
    index.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        columns: dict[str, _Column] = {}
        for piece in pieces:
            for name, array in piece.items():
                if name not in columns:
                    columns[name] = _Column(*stack.enter_context(_unpublished(index)), array)
                columns[name].append(array)
        for column in columns.values():
            column.finish()
        for name, column in columns.items():
            column.hidden.replace(array_file(index, name))
        _write_index(index, {"key": key, "arrays": {name: column.facts() for name, column in columns.items()}})


class _Column:
    """An array in the making: rows are appended to its file, and checksums taken on the way."""

    def __init__(self, file: BinaryIO, hidden: Path, first: npt.NDArray[Any]) -> None:
        self.file, self.hidden = file, hidden
        self.dtype, self.row_shape, self.rows = first.dtype, first.shape[1:], 0
        self.checksums: list[int] = []
        self._filled = 0
        self._write_header()
        self.start = file.tell()

    def append(self, array: npt.NDArray[Any]) -> None:
        """Add rows."""
        if array.dtype != self.dtype or array.shape[1:] != self.row_shape:
            raise ValueError(f"rows of {array.dtype} {array.shape[1:]} do not fit {self.dtype} {self.row_shape}")
        data = memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        self.file.write(data)
        self.rows += len(array)
        while data:
            if self._filled % BLOCK == 0:
                self.checksums.append(0)
            part = data[: BLOCK - self._filled % BLOCK]
            self.checksums[-1] = zlib.crc32(part, self.checksums[-1])
            self._filled += len(part)
            data = data[len(part) :]

    def finish(self) -> None:
        """Write the header anew, which now knows the number of rows, and bring everything to the disk."""
        self.file.seek(0)
        self._write_header()
        if self.file.tell() != self.start:
            raise OSError(f"{self.hidden}: the header of the array has outgrown its place")
        self.file.flush()
        os.fsync(self.file.fileno())

    def facts(self) -> dict[str, Any]:
        """Return what the index notes of the finished array."""
        stat = os.fstat(self.file.fileno())
        shape = [self.rows, *self.row_shape]
        found = {"shape": shape, "dtype": self.dtype.str, "start": self.start, "changed": stat.st_mtime_ns}
        return {**found, "checksums": self.checksums}

    def _write_header(self) -> None:
        described = np.lib.format.dtype_to_descr(self.dtype)
        header = {"descr": described, "fortran_order": False, "shape": (self.rows, *self.row_shape)}
        np.lib.format.write_array_header_1_0(self.file, header)  # leaves room for the number of rows to grow


def _write_index(index: Path, content: Mapping[str, Any]) -> None:
    with _unpublished(index) as (file, hidden):
        file.write(json.dumps(content).encode())
        file.flush()
        os.fsync(file.fileno())
        hidden.replace(index)


@contextlib.contextmanager
def _unpublished(index: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Open a hidden file that is gone afterwards unless it was published."""
    hidden = index.parent / f".{index.stem}.{uuid.uuid4().hex}.part"
    try:
        with hidden.open("xb") as file:
            yield file, hidden
    finally:
        hidden.unlink(missing_ok=True)
