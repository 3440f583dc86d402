"""What the process of a run tells of it while it goes on: a small file in its hidden folder. Needs no torch."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PAUSE = 1.0
"""Least seconds between two writings."""

FILE = "progress.json"


class Live:
    """Keep ``progress.json`` in a run's hidden folder.

    Args:
        work: the hidden folder.
        epochs: how many there will be; None if training is not counted in them.
    """

    def __init__(self, work: Path, epochs: int | None) -> None:
        self._file, self._epochs = work / FILE, epochs
        self._told: dict[str, Any] = {"since": time.time(), "epochs": epochs}
        self._written = -PAUSE
        self._first: tuple[float, float] | None = None

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take in an event of the run."""
        if event["event"] == "phase":
            self._told |= {"phase": event["phase"], "left": None}
        elif event["event"] == "step":
            names = ("epoch", "step", "steps", "loss", "images_per_second")
            self._told |= {name: event[name] for name in names} | {"left": self._left(event)}
        if event["event"] == "phase" or time.monotonic() - self._written >= PAUSE:
            self._write()

    def end(self) -> None:
        """Remove the file, as the run's record says it all."""
        self._file.unlink(missing_ok=True)

    def _left(self, event: Mapping[str, Any]) -> float | None:
        """Return the seconds that training will still take at the pace it had so far."""
        if not self._epochs:
            return None
        now, done = time.monotonic(), event["epoch"] - 1 + event["step"] / event["steps"]
        start, before = self._first = self._first or (now, done)
        return (now - start) / (done - before) * (self._epochs - done) if done > before else None

    def _write(self) -> None:
        self._written = time.monotonic()
        write_told(self._file, self._told)


def read_live(work: Path) -> dict[str, Any]:
    """Return what the run in a hidden folder told last; nothing if it has told nothing yet."""
    return read_told(work / FILE)


def read_told(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one if there is none."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def write_told(file: Path, told: Mapping[str, Any]) -> None:
    """Write a JSON file so that whoever reads it finds all of the old or all of the new one."""
    part = file.with_name(f".{file.name.lstrip('.')}.{uuid.uuid4().hex}.part")
    try:
        part.write_text(json.dumps(told, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def both(*hearers: Callable[[Mapping[str, Any]], object]) -> Callable[[Mapping[str, Any]], None]:
    """Return what passes an event on to several."""

    def tell(event: Mapping[str, Any]) -> None:
        for hear in hearers:
            hear(event)

    return tell
