"""Decoded images, kept between runs as memory-mapped ``.npy`` files. Needs no torch.

An entry is an index ``<digest of the key>.json`` that names arrays ``<digest of the file>.npy``. Every file is written
under a hidden name and published by one rename, arrays before index, so two processes may build the same entry at once
and a killed one leaves nothing half done. A file that no longer matches its name is built again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]


def cached_images(key: Mapping[str, Any], build: Callable[[], Arrays]) -> Arrays:
    """Return the arrays that ``build`` makes, read-only: from the cache, or built now and kept there.

    A cache folder that cannot be written changes no number: the arrays then live in memory, for this process only.

    Args:
        key: JSON values that decide every byte of the arrays: source files, options, versions of what draws or decodes.
        build: makes the arrays; called only when the cache has no intact entry.
    """
    text = json.dumps(key, sort_keys=True, allow_nan=False)
    name = hashlib.sha256(text.encode()).hexdigest()[:32] + ".json"
    with contextlib.suppress(RuntimeError):  # there may be no home directory
        if arrays := _load(cache_folder() / name):
            return arrays
    built = build()
    for array in built.values():
        array.flags.writeable = False
    try:
        _store(cache_folder() / name, key, built)
        return _load(cache_folder() / name) or built
    except (OSError, RuntimeError):
        return built


def cache_folder() -> Path:
    """Return ``$DML_BENCH_CACHE``, else ``$XDG_CACHE_HOME/dml_bench``, else ``~/.cache/dml_bench``.

    Raises:
        RuntimeError: if none of these is set and there is no home directory.
    """
    if own := os.environ.get("DML_BENCH_CACHE"):
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "dml_bench"


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def _load(index: Path) -> Arrays | None:
    """Map the arrays of an entry, or return None if there is no intact one."""
    try:
        files = {name: index.parent / f"{sha}.npy" for name, sha in json.loads(index.read_bytes())["arrays"].items()}
        if any(file_sha256(path) != path.stem for path in files.values()):
            return None
        return {name: np.load(path, mmap_mode="r") for name, path in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _store(index: Path, key: Mapping[str, Any], arrays: Arrays) -> None:
    index.parent.mkdir(parents=True, exist_ok=True)
    digests = {}
    for name, array in arrays.items():
        with _unpublished(index.parent) as (file, hidden):
            np.save(file, array, allow_pickle=False)
            file.flush()
            digests[name] = file_sha256(hidden)
            _publish(file, hidden, index.parent / f"{digests[name]}.npy")
    with _unpublished(index.parent) as (file, hidden):
        file.write(json.dumps({"key": key, "arrays": digests}, indent=1).encode())
        _publish(file, hidden, index)


@contextlib.contextmanager
def _unpublished(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Open a hidden file that is gone afterwards unless it was published."""
    hidden = folder / f".{uuid.uuid4().hex}"
    try:
        with hidden.open("xb") as file:
            yield file, hidden
    finally:
        hidden.unlink(missing_ok=True)


def _publish(file: BinaryIO, hidden: Path, path: Path) -> None:
    file.flush()
    os.fsync(file.fileno())
    hidden.replace(path)
