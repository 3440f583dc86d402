"""Who is doing a run: one owner among all processes and machines that share a folder of runs. Needs no torch.

The owner of a run has the file ``.lease-<run id>-<generation>`` of the highest generation, and touches it every
``BEAT`` seconds. It is given up as stale after ``STALE`` seconds without that, or at once if its process on this
machine is gone; another then makes the next generation. Making a file that must not exist yet is the only step that
decides, so two never win; an owner that meets a higher generation, or somebody else's file in the place of its own, has
lost and stops.
"""

from __future__ import annotations

import json
import os
import re
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType

from dml_bench.errors import ResultsError, RunTaken
from dml_bench.results.process import Process, this_process

BEAT = 5.0
"""Seconds between two signs of life."""

STALE = 90.0
"""Seconds without one after which an owner is taken for dead; longer than a network file system remembers a time."""

LEASE = re.compile(r"\.lease-(?P<run>[0-9a-f]{12}-s\d+)-(?P<generation>\d+)")


@dataclass(frozen=True)
class Holder:
    """What a lease says of its owner; an owner killed while writing it says nothing.

    Attributes:
        generation: counted from 1.
        process: of the owner.
        token: another one for each lease ever made.
        touched: when it gave its last sign of life, in the seconds of the file system's clock.
    """

    generation: int
    process: Process = field(default_factory=Process)
    token: str = ""
    touched: float = 0.0

    def alive(self, now: float) -> bool:
        """Say whether the owner may still be at work; ``now`` is the file system's clock."""
        return not self.process.gone() and now - self.touched < STALE


def holders(folder: Path) -> dict[str, Holder]:
    """Return the owner of each run of a folder, dead ones included, by run id."""
    found: dict[str, Holder] = {}
    for path in folder.glob(".lease-*"):
        name = LEASE.fullmatch(path.name)
        if name and (name["run"] not in found or found[name["run"]].generation < int(name["generation"])):
            with suppress(FileNotFoundError):
                found[name["run"]] = _read(path)
    return found


def living(folder: Path) -> dict[str, Holder]:
    """Return the owners that may still be at work, by run id."""
    found = holders(folder)
    now = clock(folder) if found else 0.0
    return {run_id: holder for run_id, holder in found.items() if holder.alive(now)}


def clock(folder: Path) -> float:
    """Return the time by the file system's clock, as machines that share it may not agree on theirs."""
    probe = folder / f".clock-{uuid.uuid4().hex}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


class Lease:
    """The right to do one run. Use as a context manager, which gives it back.

    Raises:
        RunTaken: on entering, if somebody alive holds the run.
        ResultsError: on entering, if the folder cannot be written.
    """

    def __init__(self, folder: Path, run_id: str) -> None:
        self._folder, self._run_id, self._token = folder, run_id, uuid.uuid4().hex
        self._ended = threading.Event()
        self._lost = False
        self._heart = threading.Thread(target=self._beat, name=f"lease of {run_id}", daemon=True)

    def __enter__(self) -> Lease:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._take()
        except OSError as error:
            raise ResultsError(f"{self._folder}: cannot write here: {error.strerror or error}") from error
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._heart.join()
        with suppress(OSError, RunTaken):
            self.confirm()
            for holder in self._all():  # the dead before us first, so that ours guards them until they are gone
                if holder.generation <= self._generation:
                    self._path(holder.generation).unlink(missing_ok=True)

    def confirm(self) -> None:
        """Make sure that the run is still ours.

        Raises:
            RunTaken: if another has taken it over.
        """
        found = self._all()
        if self._lost or not found or found[-1].token != self._token:
            self._lost = True
            raise self._taken(found[-1] if found else None)

    def keep(self, event: object = None) -> None:
        """Stop here if the run was found to be lost at the last heartbeat; cheap enough for every step.

        Raises:
            RunTaken: if another has taken it over.
        """
        if self._lost:
            self.confirm()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            with suppress(OSError):  # a server that does not answer for a while: whether we lost the run shows later
                try:
                    self.confirm()
                    os.utime(self._path(self._generation))
                except (FileNotFoundError, RunTaken):
                    self._lost = True
                    return

    def _take(self) -> None:
        before = self._all()
        if before and before[-1].alive(clock(self._folder)):
            raise self._taken(before[-1])
        self._generation = before[-1].generation + 1 if before else 1
        self._make()
        others = [holder for holder in self._all() if holder.token != self._token]
        if [(h.generation, h.token) for h in others] != [(h.generation, h.token) for h in before]:
            self._path(self._generation).unlink(missing_ok=True)  # others came and went meanwhile: look again later
            raise self._taken(others[-1] if others else None)

    def _make(self) -> None:
        content = json.dumps({"process": asdict(this_process()), "token": self._token}).encode()
        path = self._path(self._generation)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            raise self._taken(None) from None
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
        except OSError:
            path.unlink(missing_ok=True)
            raise

    def _all(self) -> list[Holder]:
        """Return the leases of the run by generation."""
        found = []
        for path in self._folder.glob(f".lease-{self._run_id}-*"):
            if LEASE.fullmatch(path.name):
                with suppress(FileNotFoundError):
                    found.append(_read(path))
        return sorted(found, key=lambda holder: holder.generation)

    def _path(self, generation: int) -> Path:
        return self._folder / f".lease-{self._run_id}-{generation}"

    def _taken(self, holder: Holder | None) -> RunTaken:
        by = f"process {holder.process.pid} on {holder.process.host}" if holder and holder.process.pid else "another"
        return RunTaken(f"{self._folder / self._run_id}: is being done by {by}")


@contextmanager
def held_if_free(folder: Path, run_id: str) -> Iterator[bool]:
    """Hold a run for a moment if nobody does, and clear its dead leases away; say whether it was free."""
    try:
        with Lease(folder, run_id):
            yield True
    except RunTaken:
        yield False


def _read(path: Path) -> Holder:
    """Read a lease; opening it makes a network file system look again at its time."""
    with path.open(encoding="utf-8") as file:
        touched = os.fstat(file.fileno()).st_mtime
        try:
            told: Mapping[str, object] = json.loads(file.read())
            process = Process(**told["process"])  # type: ignore[arg-type]
            token = str(told["token"])
        except (ValueError, TypeError, KeyError):
            process, token = Process(), ""
    name = LEASE.fullmatch(path.name)
    return Holder(int(name["generation"]) if name else 0, process, token, touched)
