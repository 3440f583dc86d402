"""Run a grid on this machine: one run after the other in this process, or side by side in worker processes."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from dml_bench.errors import DmlBenchError, ResultsError, RunTaken
from dml_bench.flow import execute
from dml_bench.recipe.check import Run
from dml_bench.recipe.reader import Source
from dml_bench.results.attempts import attempts_begun
from dml_bench.results.environment import available_cores
from dml_bench.results.journal import Journal
from dml_bench.results.lease import Lease, living
from dml_bench.results.live import read_live
from dml_bench.results.outcome import naming_full_disk
from dml_bench.results.record import RunRecord
from dml_bench.results.store import find_run, forget, mend, publishing, stamp
from dml_bench.runners.plan import Plan, choose_device, plan
from dml_bench.runners.pool import Died, Pool
from dml_bench.splits import describe, load_split
from dml_bench.training.checkpoint import Checkpoints

Event = Mapping[str, Any]

LOOK = 1.0
"""Seconds between two looks at what other commands are doing in the same folder."""


def run(
    recipe: Source,
    *,
    out: Path | str | None = None,
    changes: Iterable[str] = (),
    device: str = "auto",
    data_root: Path | str | None = None,
    force: bool = False,
    checkpoint_every: int | None = None,
) -> list[RunRecord]:
    """Run every run of a recipe that is not done yet, one after the other in this process.

    Args:
        recipe: a recipe file, or an equal mapping.
        out: the folder the runs are published in; by default ``runs/<recipe name>``.
        changes: settings that overrule the recipe, such as ``["training.epochs=3"]``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        data_root: the folder that holds the data sets.
        force: repeat runs that are done already.
        checkpoint_every: optimizer steps between checkpoints; see ``flow.execute``.

    Returns:
        The records of all runs of the recipe, those done earlier included, in the order of the grid.

    Raises:
        RecipeError, DataError, ResultsError: before the first run starts.

    Example:
        >>> import tempfile
        >>> recipe = {"dataset": "digits", "loss": "norm_softmax", "references": False}
        >>> short = ["training.epochs=1", "training.sampler.classes_per_batch=5", "evaluation.metrics=[recall@1]"]
        >>> [record.status for record in run(recipe, changes=short, out=tempfile.mkdtemp())]
        ['ok']
    """
    grid = plan(
        recipe, changes=changes, out=Path(out) if out else None, data_root=Path(data_root) if data_root else None
    )
    where = choose_device(device)
    grid.ready(where)
    replaces = grid.stamps()
    records = {} if force else grid.done()
    grid.same_data(records)
    todo = [item for item in grid.runs if item.run_id not in records]
    for item in todo if force else ():
        forget(grid.folder, item.run_id)
    while todo:
        for item in todo:
            with suppress(RunTaken):
                how: dict[str, Any] = {"replaces": replaces[item.run_id], "checkpoint_every": checkpoint_every}
                records[item.run_id] = execute(item, grid.folder, device=where, **how)
        todo = [item for item in todo if item.run_id not in records]
        time.sleep(LOOK if todo else 0)
    return [replace(records[item.run_id], folder=grid.folder / item.run_id) for item in grid.runs]


def run_side_by_side(
    grid: Plan,
    todo: Sequence[Run],
    devices: Sequence[str],
    *,
    replaces: Mapping[str, int] | None = None,
    timeout: float | None = None,
    checkpoint_every: int | None = None,
) -> Generator[tuple[Run, Event], None, None]:
    """Execute ``todo`` in worker processes, one per entry of ``devices``, and yield each run's events as they happen.

    The last event of a run is ``{"event": "done", "status": ..., "metrics": ..., "seconds": ...}``. A run whose worker
    dies (killed, out of memory) or that takes longer than ``timeout`` seconds is recorded as failed, and the others go
    on. Runs that other commands are doing are left to them, and done here if those die; at the end all are done.

    Args:
        grid: the folder that results go to.
        todo: the runs.
        devices: torch devices; one that is named twice has two runs at once.
        replaces: ``Plan.stamps`` of when ``todo`` was chosen; what is published since then is not done again.
        timeout: seconds.
        checkpoint_every: optimizer steps between checkpoints; see ``flow.execute``.

    Raises:
        DmlBenchError: if the time is none.
        ResultsError: if nothing can be written any more, such as on a full disk.
    """
    if timeout is not None and timeout <= 0:
        raise DmlBenchError(f"--timeout {timeout:g}: must be more than 0 seconds")
    by_id = {item.run_id: item for item in todo}
    replaces, looked = replaces or grid.stamps(), -LOOK
    waiting, resumed = {item.run_id: replaces[item.run_id] for item in todo}, dict[str, int]()
    with naming_full_disk(grid.folder), Pool(devices[: len(todo)], timeout) as pool:
        while waiting or pool.going:
            if waiting and pool.room and time.monotonic() - looked >= LOOK:
                held = living(grid.folder)
                free = [run_id for run_id in waiting if run_id not in held]
                for run_id, record in _done_elsewhere(grid.folder, {key: waiting[key] for key in free}):
                    del waiting[run_id]
                    yield by_id[run_id], {**done_event(record), "elsewhere": True}
                for run_id in [run_id for run_id in free if run_id in waiting]:
                    if pool.room:
                        more = {"replaces": waiting.pop(run_id), "checkpoint_every": checkpoint_every}
                        pool.order(run_id, _order(by_id[run_id], grid.folder, **more))
                looked = time.monotonic()
            if (found := pool.event(LOOK)) is None:
                continue
            run_id, event = found
            if isinstance(event, Died):
                event = lost(by_id[run_id], grid.folder, event, replaces[run_id], resumed.get(run_id, 0))
            if event["event"] == "stopped":
                raise ResultsError(event["reason"])
            if event["event"] == "taken":
                waiting[run_id] = replaces[run_id]
                continue
            if event["event"] == "resumed":
                resumed[run_id] = event["steps"]
            if event["event"] == "done":
                looked = -LOOK
            yield by_id[run_id], event


def outcome(run: Run, folder: Path, **how: Any) -> dict[str, Any]:
    """Execute a run and return the event that ends it: ``done``, ``taken`` by somebody else, or ``stopped``."""
    try:
        return done_event(execute(run, folder, **how))
    except RunTaken as error:
        return {"event": "taken", "reason": str(error)}
    except ResultsError as error:
        return {"event": "stopped", "reason": str(error)}


def default_jobs(runs: Iterable[Run], device: str) -> int:
    """Return how many runs go at once: as many as their threads fit on the cores, one on a GPU."""
    threads = max((r.recipe.training.threads for r in runs if r.recipe.training), default=1)
    return max(1, available_cores() // threads) if device == "cpu" else 1


def done_event(record: RunRecord) -> dict[str, Any]:
    """Return the event that ends a run."""
    return {"event": "done", "status": record.status, "reason": record.reason, "metrics": dict(record.metrics)}


def _done_elsewhere(folder: Path, stamps: Mapping[str, int]) -> Iterator[tuple[str, RunRecord]]:
    """Yield those of some runs that nobody holds which another command has done meanwhile."""
    for run_id, before in stamps.items():
        if stamp(folder, run_id) != before and (record := find_run(folder, run_id)):
            yield run_id, record


def _order(item: Run, folder: Path, **how: Any) -> dict[str, Any]:
    """Return what a worker needs to know."""
    document = {"recipe": item.recipe.document(), "options": dict(item.options)}
    return {**document, "folder": str(folder.resolve()), "how": how}


def lost(item: Run, folder: Path, death: Died, replaces: int | None = None, resumed_from: int = 0) -> dict[str, Any]:
    """Record a run whose process died or whose time was up, unless a good record of an earlier time would be lost.

    Its curve and seconds are those of its newest checkpoint. What it left in its hidden folder stays there, for the
    next attempt to go on from.
    """
    work, journal = folder / f".work-{item.run_id}", Journal(item, death.device, lambda event: None)
    journal.data = describe(load_split(item.recipe))
    journal.attempts, journal.resumed_from = max(1, attempts_begun(work)), resumed_from
    if work.exists():
        owner = {"run": item.run_id, "data": str(journal.data["digest"])}
        if parts := Checkpoints(work, owner).newest():
            journal.load_state_dict(parts["journal"])
        else:
            journal.began(read_live(work).get("since"))
    reason = f"timed out: {death.reason}" if death.timed_out else f"died: the run's process was {death.reason}"
    record = journal.record("failed", {}, reason, died=not death.timed_out)
    try:
        with Lease(folder, item.run_id) as lease:
            mend(folder, item.run_id)
            if replaces is not None and stamp(folder, item.run_id) != replaces:
                return done_event(RunRecord.read(folder / item.run_id / "record.json"))
            earlier = find_run(folder, item.run_id)
            if earlier is None or earlier.status == "failed":
                with publishing(folder, item.run_id, lease, hidden="lost") as hidden:
                    record.write(hidden)
                    said = "\n".join([*journal.lines, death.stderr])
                    (hidden / "log.txt").write_text(said, encoding="utf-8")
    except RunTaken:  # by a command that noticed before us
        return {"event": "taken", "reason": reason}
    return done_event(record)
