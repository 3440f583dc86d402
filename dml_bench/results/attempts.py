"""The attempts at one run: what waits in its hidden folder while no process works on it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

COUNT = "attempts"
CHECKPOINTS = "checkpoint-*.pt"


def begin_attempt(work: Path) -> int:
    """Count an attempt, and leave of earlier ones nothing but their checkpoints; return its number, from 1."""
    number, count = attempts_begun(work) + 1, work / COUNT
    for path in set(work.iterdir()) - {count, *work.glob(CHECKPOINTS)}:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    partial = work / f".{COUNT}.{os.getpid()}"
    partial.write_text(f"{number}\n", encoding="utf-8")
    partial.replace(count)
    return number


def attempts_begun(work: Path) -> int:
    """Return how many attempts were begun in a hidden folder; 0 if it does not say."""
    count = work / COUNT
    said = count.read_bytes().strip() if count.exists() else b""
    return int(said) if said.isdigit() else 0


def end_attempts(work: Path) -> None:
    """Remove what only another attempt would need, once there can be none: the run is published."""
    for path in [work / COUNT, *work.glob(CHECKPOINTS)]:
        path.unlink(missing_ok=True)
