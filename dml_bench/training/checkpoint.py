"""Files from which a training goes on exactly where it stood: each whole or not at all, and known to be unharmed."""

from __future__ import annotations

import hashlib
import io
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

SHARE = 50
"""Without an interval in steps, the next checkpoint waits for this many times what the last one took: 2 percent."""
KEPT = 2
NAME = re.compile(r"checkpoint-(?P<steps>\d+)-(?P<digest>[0-9a-f]{16})\.pt")
"""Optimizer steps that were done, and the beginning of the sha256 of the file."""


@runtime_checkable
class Stateful(Protocol):
    """What can be saved and go on from what was saved: tensors, numbers, texts, and lists and dicts of them."""

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be saved."""

    def load_state_dict(self, state: dict[str, Any], /) -> Any:
        """Go on from what ``state_dict`` returned."""


class Checkpoints:
    """The checkpoints of one run, in its folder.

    Files are written beside their name, flushed and renamed; the last two stay. The name holds a checksum, and
    ``torch.load(..., weights_only=True)`` reads the file.

    Args:
        folder: where the files are.
        owner: what the run is: files of another are never used.
        every: optimizer steps from one checkpoint to the next; None for as often as takes about 2 percent of the time.
        parts: what is saved beside the training itself, by name; none if files are only looked at.
        note: is told what is wrong with a file.
        on_saved: is told of each new file.
        writes: whether to write at all: of several ranks one does, and the others go on from the same files.
        on_restored: is told how many optimizer steps had been done, when a file is gone on with.
    """

    def __init__(
        self,
        folder: Path,
        owner: Mapping[str, str],
        every: int | None = None,
        parts: Mapping[str, Stateful] | None = None,
        note: Callable[[str], None] = lambda line: None,
        on_saved: Callable[[Path], None] = lambda path: None,
        on_restored: Callable[[int], None] = lambda steps: None,
        writes: bool = True,
    ) -> None:
        self.folder, self.owner, self.every = folder, dict(owner), every
        self.parts, self._note, self._on_saved = dict(parts or {}), note, on_saved
        self._on_restored, self._writes = on_restored, writes
        self._last, self._cost, self._saved_at = 0, 0.0, -1.0
        self._good: list[Path] = []

    def due(self, steps: int) -> bool:
        """Return whether it is time for the next one, after ``steps`` optimizer steps; the first is due at once."""
        if self.every is not None:
            return steps - self._last >= self.every
        return self._saved_at < 0 or time.perf_counter() - self._saved_at >= SHARE * self._cost

    def save(self, steps: int, training: Mapping[str, Any]) -> None:
        """Write a checkpoint if this is who writes, and leave beside it the last good one alone.

        Raises:
            OSError: if the disk is full or the folder cannot be written; earlier checkpoints stay as they are.
        """
        if not self._writes:
            return
        start = time.perf_counter()
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        stream = io.BytesIO()
        torch.save({"owner": self.owner, "steps": steps, "training": training, "parts": parts}, stream)
        content = stream.getvalue()
        path = self.folder / f"checkpoint-{steps}-{_digest(content)}.pt"
        write_whole(path, content)
        self._good = [path, *(good for good in self._good if good != path)][:KEPT]
        for old in set(self._files()) - set(self._good):
            old.unlink(missing_ok=True)
        self._last, self._saved_at = steps, time.perf_counter()
        self._cost = self._saved_at - start
        self._on_saved(path)

    def restore(self) -> dict[str, Any] | None:
        """Bring the parts back to the newest good checkpoint; return what it holds of the training, None without one.

        A file that is damaged or belongs to another run is passed over with a note.
        """
        path, found = self._newest()
        if path is None or found is None:
            return None
        self._good = [path]
        for name, part in self.parts.items():
            part.load_state_dict(found["parts"][name])
        self._last = found["steps"]
        self._on_restored(self._last)
        training: dict[str, Any] = found["training"]
        return training

    def newest(self) -> Mapping[str, Any]:
        """Return the parts of the newest good checkpoint, without going on from it; none without one."""
        _, found = self._newest()
        return found["parts"] if found else {}

    def _newest(self) -> tuple[Path | None, dict[str, Any] | None]:
        read = ((path, state) for path in self._files() if (state := self._read(path)) is not None)
        return next(read, (None, None))

    def _files(self) -> list[Path]:
        """Return all checkpoints, newest first."""
        named = [(match, path) for path in self.folder.iterdir() if (match := NAME.fullmatch(path.name))]
        named.sort(key=lambda item: (int(item[0]["steps"]), item[1].stat().st_mtime_ns), reverse=True)
        return [path for _, path in named]

    def _read(self, path: Path) -> dict[str, Any] | None:
        match = NAME.fullmatch(path.name)
        try:
            content = path.read_bytes()
        except OSError as error:
            self._note(f"warning: {path.name} cannot be read ({error.strerror}) and is passed over")
            return None
        if match is None or _digest(content) != match["digest"]:
            self._note(f"warning: {path.name} is damaged and is passed over")
            return None
        try:
            state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            whole = set(state) == {"owner", "steps", "training", "parts"}
        except Exception:  # a file of another program can raise anything
            whole = False
        if not whole or (self.parts and set(state["parts"]) != set(self.parts)):
            self._note(f"warning: {path.name} is no checkpoint of this version and is passed over")
            return None
        if state["owner"] != self.owner:
            self._note(f"{path.name} is of {_listed(state['owner'])}, not of {_listed(self.owner)}, and is left out")
            return None
        return state


def write_whole(path: Path, content: bytes) -> None:
    """Write a file by one rename, so that it is there whole or not at all, whenever the machine stops."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _listed(owner: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in owner.items())
