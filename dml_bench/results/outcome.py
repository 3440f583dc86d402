"""What became of a run: the kind of failure that its record's reason begins with. Needs no torch.

A full disk is no outcome of a run: it stops the grid, and nothing is recorded.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dml_bench.errors import DiskFullError, DivergedError, DmlBenchError

KINDS = ("error", "diverged", "out of memory", "timed out", "died")
"""How runs fail. The last is no doing of the recipe: such runs are tried again unasked."""

FULL = (errno.ENOSPC, errno.EDQUOT)
NO_MEMORY = ("can't allocate memory", "not enough memory", "CUDA out of memory", "std::bad_alloc", "cannot allocate")


def reason_of(error: BaseException) -> str:
    """Write why a run failed: ``kind: error: message``."""
    return f"{_kind(error)}: {type(error).__name__}: {error}"


def kind_of(reason: str) -> str:
    """Return the kind of failure that a reason begins with; ``error`` for those of old, which name none."""
    kind = reason.partition(":")[0]
    return kind if kind in KINDS else "error"


def choose_kinds(words: str) -> tuple[str, ...]:
    """Return the kinds of failure that ``--retry`` names, such as ``diverged,timed-out``; ``failed`` is all of them.

    Raises:
        DmlBenchError: on a word that is none of them.
    """
    names = {kind.replace(" ", "-"): (kind,) for kind in KINDS} | {"failed": KINDS}
    found: list[str] = []
    for word in words.split(","):
        if word.strip() not in names:
            raise DmlBenchError(f"--retry {words}: {word.strip()!r} must be one of {', '.join(sorted(names))}")
        found += names[word.strip()]
    return tuple(dict.fromkeys(found))


def _kind(error: BaseException) -> str:
    if isinstance(error, DivergedError):
        return "diverged"
    told = str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out of memory"
    return "out of memory" if isinstance(error, RuntimeError) and any(word in told for word in NO_MEMORY) else "error"


@contextmanager
def naming_full_disk(folder: Path) -> Iterator[None]:
    """Turn whatever comes of a full disk into one clear error.

    Raises:
        DiskFullError: naming the full disk by a path on it.
    """
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        if (where := _full(error, folder)) is None:
            raise
        said = "the disk is full. No run is lost: make room, and the same command (without --force) goes on from here"
        raise DiskFullError(f"{where}: {said}") from error


def _full(error: BaseException | None, folder: Path) -> str | None:
    """Return a path on the full disk if that is what an error is about."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return str(error.filename or folder)
        if isinstance(error, RuntimeError) and "PytorchStreamWriter" in str(error):  # torch's own way of writing
            return str(folder)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None
