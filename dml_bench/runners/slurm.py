"""Run a grid on a Slurm cluster by submitit: each run is a job that calls ``execute`` on the shared folder of results.

A job that Slurm preempts or ends for its time is put in the queue again and goes on from its last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dml_bench.errors import DmlBenchError, RunTaken
from dml_bench.flow import execute
from dml_bench.recipe.check import Run
from dml_bench.results.store import find_run
from dml_bench.runners.local import LOOK, Event, done_event, lost
from dml_bench.runners.node import device_of, need_of
from dml_bench.runners.plan import Plan
from dml_bench.runners.pool import Died

PLAIN = ("timeout_min", "mem_gb", "nodes", "stderr_to_stdout")
"""Parameters that submitit has for every kind of cluster; others are Slurm's own, and prefixed so."""


@dataclass(frozen=True)
class Job:
    """What a job does: one run, on a disk that all machines share."""

    run: Run
    folder: Path
    how: Mapping[str, Any]

    def __call__(self) -> None:
        """Do the run and publish it; wait if somebody else is at it, such as a job whose end was not noticed yet."""
        while True:
            with suppress(RunTaken):
                execute(self.run, self.folder, device=device_of(self.run), **self.how)
                return
            time.sleep(LOOK)

    def checkpoint(self) -> Any:
        """Return what submitit puts in the queue when Slurm ends the job early: the same, which goes on from there."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run_on_slurm(
    grid: Plan,
    todo: Sequence[Run],
    *,
    replaces: Mapping[str, int],
    checkpoint_every: int | None = None,
    parameters: Mapping[str, Any],
    pause: float = 2.0,
) -> Generator[tuple[Run, Event], None, None]:
    """Submit ``todo`` as jobs and yield what becomes of them; see ``run_side_by_side``.

    Args:
        grid: its folder lies on a disk that all machines share.
        todo: runs; the ``resources`` of a recipe say what its run is given.
        replaces: ``Plan.stamps`` of when ``todo`` was chosen; what is published since then is not done again.
        checkpoint_every: optimizer steps between checkpoints; see ``flow.execute``.
        parameters: of submitit or Slurm, such as ``{"partition": "gpu", "timeout_min": 600}``; ``cluster: local`` has
            the jobs done by processes of this machine.
        pause: between two looks at the queue, seconds.

    Raises:
        DmlBenchError: if submitit or Slurm is not there, or a parameter is unknown.
    """
    executor, given = _executor(grid.folder / ".jobs", dict(parameters))
    jobs: dict[Any, Run] = {}
    states: dict[Any, str] = {}
    try:
        for run in todo:
            need = need_of(run)
            executor.update_parameters(
                cpus_per_task=int(need["CPU"]), gpus_per_node=_whole(need.get("GPU", 0.0)), **given
            )
            how = {"replaces": replaces[run.run_id], "checkpoint_every": checkpoint_every}
            jobs[executor.submit(Job(run, grid.folder.resolve(), how))] = run
        while jobs:
            for job, run in list(jobs.items()):
                if job.done():
                    yield jobs.pop(job), _ended(job, run, grid.folder)
                elif job.state != states.get(job):
                    states[job] = job.state
                    yield run, {"event": "phase", "phase": job.state.lower()}
            time.sleep(pause if jobs else 0)
    finally:
        for job in jobs:
            job.cancel()


def _executor(folder: Path, parameters: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return submitit's executor and the parameters of every job, under the names it knows."""
    try:
        import submitit
    except ImportError:
        raise DmlBenchError("--runner slurm needs submitit: pip install 'dml-bench[slurm]'") from None
    cluster = parameters.pop("cluster", "slurm")
    given = {key if key in PLAIN else f"slurm_{key}": value for key, value in parameters.items()}
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster)
        executor.update_parameters(name="dml-bench", **given)
    except (RuntimeError, ValueError, TypeError, NameError) as error:
        raise DmlBenchError(f"--runner slurm: {error}") from None
    return executor, given


def _ended(job: Any, run: Run, folder: Path) -> Event:
    error, record = job.exception(), find_run(folder, run.run_id)
    if error is None and record is not None:
        return done_event(record)
    return lost(run, folder, Died(str(error).splitlines()[0], job.stderr() or "", device_of(run)))


def _whole(gpus: float) -> int:
    if gpus != int(gpus):
        raise DmlBenchError(f"resources.num_gpus: must be whole for Slurm, not {gpus:g}")
    return int(gpus)
