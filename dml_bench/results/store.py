"""The folder of runs: worked on in a hidden sibling, published by one rename, never edited afterwards."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dml_bench.errors import ResultsError
from dml_bench.results.attempts import end_attempts
from dml_bench.results.lease import Lease, held_if_free, holders
from dml_bench.results.outcome import naming_full_disk
from dml_bench.results.record import RunRecord

RUN = r"(?P<run>[0-9a-f]{12}-s\d+)"
OLD = re.compile(rf"\.old-{RUN}")
HIDDEN = re.compile(rf"\.(work|lost)-{RUN}")
"""Names of our own folders; nothing else in a folder of runs is ever touched."""


def prepare(folder: Path) -> None:
    """Make ``folder`` if need be, prove that it can be written, and clear up after processes that were killed.

    What was killed while publishing is mended. Leases of the dead go, and so does what hidden folders hold of runs that
    are published and done with. Runs that somebody is doing are left alone.

    Raises:
        ResultsError: naming the folder and the reason.
    """
    probe = folder / f".write-{os.getpid()}"
    try:
        with naming_full_disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
            names = [path.name for path in folder.iterdir()]
            found = {match["run"] for name in names if (match := OLD.fullmatch(name) or HIDDEN.fullmatch(name))}
            for run_id in found | set(holders(folder)):
                with held_if_free(folder, run_id) as free:
                    if free:
                        _clear_up(folder, run_id)
    except OSError as error:
        raise ResultsError(f"{folder}: cannot write here: {error.strerror}; choose another folder with --out") from None


def _clear_up(folder: Path, run_id: str) -> None:
    mend(folder, run_id)
    published, work = folder / run_id, folder / f".work-{run_id}"
    end_attempts(published)
    shutil.rmtree(folder / f".lost-{run_id}", ignore_errors=True)
    if published.exists() and work.exists() and not RunRecord.read(published / "record.json").may_go_on:
        shutil.rmtree(work)


def mend(folder: Path, run_id: str) -> None:
    """Put back what was there if a process was killed while it replaced a run."""
    published, old = folder / run_id, folder / f".old-{run_id}"
    if old.exists():
        shutil.rmtree(old) if published.exists() else old.rename(published)


def forget(folder: Path, run_id: str) -> None:
    """Remove what an interrupted attempt at a run has left, unless somebody is at it, so that it begins anew."""
    work = folder / f".work-{run_id}"
    if work.exists():
        with held_if_free(folder, run_id) as free:
            if free:
                shutil.rmtree(work)


def stamp(folder: Path, run_id: str) -> int:
    """Return what tells one publication of a run from the next: when its record was written; 0 if there is none."""
    try:
        return (folder / run_id / "record.json").stat().st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return 0


def find_run(folder: Path, run_id: str) -> RunRecord | None:
    """Return the record of a published run, or None if there is none.

    Raises:
        ResultsError: if the run's folder is there but its record is broken.
    """
    path = folder / run_id
    return RunRecord.read(path / "record.json") if path.exists() else None


@contextmanager
def publishing(folder: Path, run_id: str, lease: Lease | None = None, *, hidden: str = "work") -> Iterator[Path]:
    """Give the run's hidden folder to fill, and publish it as ``folder/run_id`` when the block ends well.

    A run already there is replaced whole. If the block raises or the process dies, nothing is published, and what is in
    the hidden folder waits for the next attempt.

    Args:
        folder: of the runs.
        run_id: of the run.
        lease: without which nothing is published, if it was lost meanwhile.
        hidden: ``work``, the folder of attempts at the run, or ``lost``, one beside it, which leaves the other for the
            next attempt to go on from.

    Raises:
        ResultsError: if the folder cannot be written, or the disk is full.
        RunTaken: if the lease was lost.
    """
    work = folder / f".{hidden}-{run_id}"
    try:
        with naming_full_disk(folder):
            work.mkdir(parents=True, exist_ok=True)
            yield work
            for path in work.iterdir():
                _sync(path)
            _sync(work)
            target, old = folder / run_id, folder / f".old-{run_id}"
            if lease:
                lease.confirm()
            if target.exists():
                target.rename(old)
            work.rename(target)
            _sync(folder)
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise ResultsError(f"{folder / run_id}: the run cannot be published: {error.strerror or error}") from error


def read_runs(folders: Iterable[Path]) -> list[RunRecord]:
    """Read every published run at or below ``folders``, in order of path; see ``find_runs``."""
    return list(find_runs(folders).values())


def find_runs(folders: Iterable[Path]) -> dict[Path, RunRecord]:
    """Read every published run at or below ``folders``, in order of path, by its own folder.

    Raises:
        ResultsError: if a folder is missing, holds no run, or a record is broken; the file is named, never skipped.
    """
    records: dict[Path, RunRecord] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ResultsError(f"{folder}: no such folder of runs")
        paths = [path for path in sorted(folder.rglob("record.json")) if not _hidden(path.relative_to(folder))]
        if not paths:
            raise ResultsError(f"{folder}: no published run in it (a run is a folder with a record.json)")
        for path in folder.rglob("*-s*"):
            if re.fullmatch(RUN, path.name) and path.is_dir() and not (path / "record.json").exists():
                raise ResultsError(f"{path}: a run without its record.json")
        records |= {path.resolve().parent: RunRecord.read(path) for path in paths}
    return records


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk, so that a rename never outruns what it publishes."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
