"""A lock between processes that dies with its holder. Needs no torch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks: two processes then do the same work, which harms nothing
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the lock ``path`` in an existing folder, waiting while another process has it; leave no file behind."""
    if fcntl is None:
        yield
        return
    while True:
        with path.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is(path, file.fileno()):
                continue  # the holder before us has removed the file: this one guards nothing
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def held(path: Path) -> bool:
    """Say whether a living process holds the lock ``path``."""
    if fcntl is None or not path.exists():
        return False
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
    except OSError:
        return path.exists()


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
