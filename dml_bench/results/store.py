"""The folder of runs: worked on in a hidden sibling, published by one rename, never edited afterwards."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dml_bench.errors import ResultsError
from dml_bench.results.record import RunRecord

RUN = r"(?P<run>[0-9a-f]{12}-s\d+)"
OLD = re.compile(rf"\.old-{RUN}")
"""Names of our own folders; nothing else in a folder of runs is ever touched."""


def prepare(folder: Path) -> None:
    """Make ``folder`` if need be, prove that it can be written, and mend what was killed while publishing.

    Raises:
        ResultsError: naming the folder and the reason.
    """
    probe = folder / f".write-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
        for path in folder.iterdir():
            if old := OLD.fullmatch(path.name):
                published = folder / old["run"]
                shutil.rmtree(path) if published.exists() else path.rename(published)
    except OSError as error:
        raise ResultsError(f"{folder}: cannot write here: {error.strerror}; choose another folder with --out") from None


def find_run(folder: Path, run_id: str) -> RunRecord | None:
    """Return the record of a published run, or None if there is none.

    Raises:
        ResultsError: if the run's folder is there but its record is broken.
    """
    path = folder / run_id
    return RunRecord.read(path / "record.json") if path.exists() else None


@contextmanager
def publishing(folder: Path, run_id: str) -> Iterator[Path]:
    """Give the run's hidden folder to fill, and publish it as ``folder/run_id`` when the block ends well.

    A run already there is replaced whole. If the block raises or the process dies, nothing is published, and what is in
    the hidden folder waits for the next attempt.

    Raises:
        ResultsError: if the folder cannot be written, or the disk is full.
    """
    work = folder / f".work-{run_id}"
    try:
        work.mkdir(parents=True, exist_ok=True)
        yield work
        for path in work.iterdir():
            _sync(path)
        _sync(work)
        target, old = folder / run_id, folder / f".old-{run_id}"
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
