"""Which process did it, and whether it still lives. Needs no torch."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A process, told apart from later ones of the same number.

    Attributes:
        pid: its number; 0 if unknown.
        host: the machine's name, for people.
        place: where the number means something: the boot of a machine and its space of process numbers.
        started: when it began, in ticks since that boot; empty where the system does not say.
    """

    pid: int = 0
    host: str = ""
    place: str = ""
    started: str = ""

    def gone(self) -> bool:
        """Say whether the process has certainly ended; of one elsewhere, nothing is certain."""
        if not self.pid or self.place != PLACE or os.name == "nt":
            return False
        if now := _started(self.pid):
            return now != self.started
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # somebody else's, of which we may not even see when it began
            return False
        return PROC.is_dir()  # it is there and has ended: its parent has not yet asked how


def this_process() -> Process:
    """Return the process that asks."""
    return Process(os.getpid(), platform.node(), PLACE, _started(os.getpid()))


def _place() -> str:
    """Name the boot of this machine and the space of process numbers, which containers have of their own."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def _started(pid: int) -> str:
    """Return when a living process began; empty if there is none, or it only waits to be buried."""
    try:
        words = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if words[0] in "ZX" else words[19]


PLACE = _place()
