"""Run a grid on a Ray cluster: each run is a task, and this process alone writes to the folder of results.

A task that is lost, with its process or its node, is begun again elsewhere from the checkpoints that have come. Ray
repeats nothing by itself, and what a lost attempt may still send is not heard, so that each run is published once.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from dml_bench.errors import RunTaken
from dml_bench.recipe.check import Run
from dml_bench.results.lease import Lease, living
from dml_bench.results.live import Live
from dml_bench.results.record import RunRecord
from dml_bench.results.store import mend, publishing, stamp
from dml_bench.runners.cluster import Cluster, connected
from dml_bench.runners.local import LOOK, Event, done_event, lost
from dml_bench.runners.node import Files, keep_only, left_behind, take_over, work_folder, write_files
from dml_bench.runners.plan import Plan
from dml_bench.runners.pool import Died

LOSSES = 3
"""How often a run may lose its process or its node; after one more it is recorded as failed."""


def run_on_ray(
    grid: Plan,
    todo: Sequence[Run],
    *,
    replaces: Mapping[str, int],
    checkpoint_every: int | None = None,
    address: str | None = None,
    ship_data: bool = False,
) -> Generator[tuple[Run, Event], None, None]:
    """Execute ``todo`` on a Ray cluster and yield each run's events as they happen; see ``run_side_by_side``.

    Args:
        grid: the folder that results go to.
        todo: runs; the ``resources`` of a recipe say what its run is given. One with GPUs computes on them.
        replaces: ``Plan.stamps`` of when ``todo`` was chosen; what is published since then is not done again.
        checkpoint_every: optimizer steps between checkpoints; see ``flow.execute``.
        address: of a cluster, such as ``auto`` or ``head:6379``; None starts Ray on the cores of this machine.
        ship_data: send decoded images through Ray's object store; otherwise nodes read the same paths as this process.

    Raises:
        DmlBenchError: if Ray is not installed or not reached, no node is large enough, or one has other code.
        ResultsError: if nothing can be written any more, such as on a full disk.
    """
    with (
        connected(address) as ray,
        closing(Held(grid.folder)) as held,
        closing(Cluster(ray, ship_data, checkpoint_every)) as cluster,
    ):
        errand = Errand(grid.folder, replaces, cluster, held, list(todo))
        while errand.waiting or cluster.going:
            yield from errand.begin()
            ended = cluster.ended()
            for run, event in cluster.heard():
                yield from errand.hear(run, event)
            for run, outcome in cluster.outcomes(ended):
                yield from errand.end(run, outcome)


class Errand:
    """What is to be done in a folder, and what becomes of it on a cluster; methods yield the events to show.

    Attributes:
        waiting: runs that are not on the cluster and not done, in order.
    """

    def __init__(
        self, folder: Path, replaces: Mapping[str, int], cluster: Cluster, held: Held, waiting: list[Run]
    ) -> None:
        self._folder, self._replaces, self._cluster, self._held = folder, replaces, cluster, held
        self.waiting = waiting
        self._begun, self._live = Counter[str](), dict[str, Live]()
        self._looked = -LOOK

    def begin(self) -> Iterator[tuple[Run, Event]]:
        """Submit what there is room for; what others are doing is left to them, and looked at again later."""
        if time.monotonic() - self._looked < LOOK or not self.waiting:
            return
        self._looked, taken = time.monotonic(), living(self._folder).keys() - self._held.leases
        for run in [run for run in self.waiting if run.run_id not in taken]:
            if not self._cluster.has_room(run):
                break
            if not self._held.take(run.run_id):
                continue
            self.waiting.remove(run)
            mend(self._folder, run.run_id)
            if stamp(self._folder, run.run_id) != self._replaces[run.run_id]:
                self._held.give_back(run.run_id)
                yield run, {**self._published(run), "elsewhere": True}
            else:
                self._submit(run)

    def hear(self, run: Run, event: Event) -> Iterator[tuple[Run, Event]]:
        """Take in what a run on the cluster tells: checkpoints go to its hidden folder, the rest is for people."""
        if event["event"] == "files":
            take_over(work_folder(self._folder, run), event["files"], event["kept"])
        else:
            self._live[run.run_id].hear(event)
            yield run, event

    def end(self, run: Run, outcome: Files | Died) -> Iterator[tuple[Run, Event]]:
        """Publish what has come of a run, or have it begun again if it was lost."""
        self._looked = -LOOK
        if isinstance(outcome, Died) and self._begun[run.run_id] <= LOSSES:
            self.waiting.insert(0, run)
            yield run, {"event": "warning", "line": f"lost: {outcome.reason}; goes on elsewhere"}
            return
        event = self._give_up(run, outcome) if isinstance(outcome, Died) else self._publish(run, outcome)
        if event["event"] == "taken":
            self.waiting.append(run)
        else:
            yield run, event

    def _submit(self, run: Run) -> None:
        work, training = work_folder(self._folder, run), run.recipe.training
        work.mkdir(exist_ok=True)
        self._begun[run.run_id] += 1
        self._live[run.run_id] = Live(work, training.epochs if training else None)
        self._cluster.submit(run, self._begun[run.run_id], left_behind(work))

    def _publish(self, run: Run, files: Files) -> dict[str, Any]:
        lease = self._held.leases[run.run_id]
        try:
            with publishing(self._folder, run.run_id, lease) as work:
                write_files(work, files)
                keep_only(work, files)
            return self._published(run)
        except RunTaken as error:
            return {"event": "taken", "reason": str(error)}
        finally:
            self._held.give_back(run.run_id)

    def _give_up(self, run: Run, death: Died) -> dict[str, Any]:
        self._held.give_back(run.run_id)
        reason = f"lost {self._begun[run.run_id]} times; the last time: {death.reason}"
        return lost(run, self._folder, Died(reason, death.stderr, death.device), self._replaces[run.run_id])

    def _published(self, run: Run) -> dict[str, Any]:
        return done_event(RunRecord.read(self._folder / run.run_id / "record.json"))


class Held:
    """The leases of the runs that are on the cluster; to be closed, which gives them back."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.leases: dict[str, Lease] = {}

    def take(self, run_id: str) -> bool:
        """Hold a run; return whether that was possible, or it was held already."""
        if run_id not in self.leases:
            lease = Lease(self._folder, run_id)
            with suppress(RunTaken):
                self.leases[run_id] = lease.__enter__()
        return run_id in self.leases

    def give_back(self, run_id: str) -> None:
        """Let others do a run."""
        self.leases.pop(run_id).__exit__(None, None, None)

    def close(self) -> None:
        """Let others do all runs."""
        for run_id in list(self.leases):
            self.give_back(run_id)
