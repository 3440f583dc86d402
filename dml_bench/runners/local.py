"""Run a grid on this machine: one run after the other in this process, or side by side in worker processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dml_bench.flow import describe, execute, load_split
from dml_bench.recipe.check import Run
from dml_bench.recipe.reader import Source
from dml_bench.results.environment import available_cores
from dml_bench.results.journal import Journal
from dml_bench.results.record import RunRecord
from dml_bench.results.store import find_run, publishing
from dml_bench.runners.plan import Plan, choose_device, plan
from dml_bench.runners.pool import Died, Pool

Event = Mapping[str, Any]


def run(
    recipe: Source,
    *,
    out: Path | str | None = None,
    changes: Iterable[str] = (),
    device: str = "auto",
    data_root: Path | str | None = None,
    force: bool = False,
) -> list[RunRecord]:
    """Run every run of a recipe that is not done yet, one after the other in this process.

    Args:
        recipe: a recipe file, or an equal mapping.
        out: the folder the runs are published in; by default ``runs/<recipe name>``.
        changes: settings that overrule the recipe, such as ``["training.epochs=3"]``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        data_root: the folder that holds the data sets.
        force: repeat runs that are done already.

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
    records = {} if force else grid.done()
    grid.same_data(records)
    for item in grid.runs:
        if item.run_id not in records:
            records[item.run_id] = execute(item, grid.folder, device=where)
    return [records[item.run_id] for item in grid.runs]


def run_side_by_side(grid: Plan, todo: list[Run], device: str, jobs: int) -> Iterator[tuple[Run, Event]]:
    """Execute ``todo`` in ``jobs`` worker processes and yield each run's events as they happen.

    The last event of a run is ``{"event": "done", "status": ..., "metrics": ..., "seconds": ...}``. A run whose worker
    dies (killed, out of memory) is recorded as failed, and the others go on.
    """
    by_id = {item.run_id: item for item in todo}
    with Pool(min(jobs, len(todo))) as pool:
        for run_id, event in pool.map({item.run_id: _order(item, grid.folder, device) for item in todo}):
            item = by_id[run_id]
            yield item, lost(item, grid.folder, device, event) if isinstance(event, Died) else event


def default_jobs(runs: Iterable[Run], device: str) -> int:
    """Return how many runs go at once: as many as their threads fit on the cores, one on a GPU."""
    threads = max((r.recipe.training.threads for r in runs if r.recipe.training), default=1)
    return max(1, available_cores() // threads) if device == "cpu" else 1


def done_event(record: RunRecord) -> dict[str, Any]:
    """Return the event that ends a run."""
    return {"event": "done", "status": record.status, "reason": record.reason, "metrics": dict(record.metrics)}


def _order(item: Run, folder: Path, device: str) -> dict[str, Any]:
    """Return what a worker needs to know."""
    document = {"recipe": item.recipe.document(), "options": dict(item.options)}
    return {**document, "folder": str(folder.resolve()), "device": device}


def lost(item: Run, folder: Path, device: str, death: Died) -> dict[str, Any]:
    """Record a run whose process died, unless a good record of an earlier time would be lost."""
    journal = Journal(item, device, lambda event: None)
    journal.data = describe(load_split(item.recipe))
    record = journal.record("failed", {}, f"the run's process died: {death.reason}", died=True)
    earlier = find_run(folder, item.run_id)
    if earlier is None or earlier.status == "failed":
        with publishing(folder, item.run_id) as work:
            record.write(work)
            (work / "log.txt").write_text(death.stderr, encoding="utf-8")
    return done_event(record)
