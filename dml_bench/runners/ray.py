"""Run a grid on a Ray cluster: each run is a task, and this process alone writes to the folder of results.

A task that is lost, with its process or its node, is begun again elsewhere from the checkpoints that have come. Ray
repeats nothing by itself, and what a lost attempt may still send is not heard, so that each run is published once.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from dml_bench.data.dataset import Split
from dml_bench.data.shipping import in_memory
from dml_bench.errors import DmlBenchError, RunTaken
from dml_bench.flow import load_split
from dml_bench.recipe.check import Run
from dml_bench.results.environment import available_cores
from dml_bench.results.lease import Lease
from dml_bench.results.record import RunRecord
from dml_bench.results.store import publishing, stamp
from dml_bench.runners.local import LOOK, Event, done_event, lost
from dml_bench.runners.node import (
    Files,
    Order,
    code_digest,
    device_of,
    keep_only,
    need_of,
    perform,
    read_files,
    work_folder,
    write_files,
)
from dml_bench.runners.plan import Plan
from dml_bench.runners.pool import Died

LOSSES = 3
"""How often a run may lose its process or its node; after one more it is recorded as failed."""

PAUSE = 0.2
"""Longest wait between two looks at what has come, seconds."""

PASSED_ON = ("DML_BENCH_DATA", "CUBLAS_WORKSPACE_CONFIG")
"""Variables of this process's environment that its tasks get."""


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
        address: of a cluster, such as ``auto`` or ``ray://head:10001``; None starts Ray on the cores of this machine.
        ship_data: send decoded images through Ray's object store; otherwise nodes read the same paths as this process.

    Raises:
        DmlBenchError: if Ray is not installed or not reached, no node is large enough, or one has other code.
    """
    with _connected(address) as ray, Held(grid.folder) as held:
        cluster = Cluster(ray, ship_data, checkpoint_every)
        waiting, begun = list(todo), Counter[str]()
        try:
            while waiting or cluster.going:
                for run in [run for run in waiting if cluster.has_room(run) and held.take(run.run_id)]:
                    if stamp(grid.folder, run.run_id) != replaces[run.run_id]:
                        waiting.remove(run)
                        held.give_back(run.run_id)
                        yield run, {**_published(grid, run), "elsewhere": True}
                    elif cluster.has_room(run):
                        waiting.remove(run)
                        begun[run.run_id] += 1
                        cluster.submit(run, begun[run.run_id], read_files(work_folder(grid.folder, run)))
                ended = cluster.ended()
                for run, event in cluster.heard():
                    if event["event"] == "files":
                        write_files(work_folder(grid.folder, run), event["files"])
                        keep_only(work_folder(grid.folder, run), event["kept"])
                    else:
                        yield run, event
                for run, outcome in cluster.outcomes(ended):
                    if isinstance(outcome, Died) and begun[run.run_id] <= LOSSES:
                        waiting.insert(0, run)
                        yield run, {"event": "warning", "line": f"lost: {outcome.reason}; goes on elsewhere"}
                        continue
                    if isinstance(outcome, Died):
                        held.give_back(run.run_id)
                        yield run, lost(run, grid.folder, outcome, replaces[run.run_id])
                        continue
                    with publishing(grid.folder, run.run_id, held.leases[run.run_id]) as work:
                        write_files(work, outcome)
                        keep_only(work, outcome)
                    held.give_back(run.run_id)
                    yield run, _published(grid, run)
        finally:
            cluster.cancel()


def _published(grid: Plan, run: Run) -> dict[str, Any]:
    """Return the event that ends a run which is published."""
    return done_event(RunRecord.read(grid.folder / run.run_id / "record.json"))


class Held:
    """The leases of the runs that are on the cluster; use as a context manager, which gives them back."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.leases: dict[str, Lease] = {}

    def __enter__(self) -> Held:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for run_id in list(self.leases):
            self.give_back(run_id)

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


class Mailbox:
    """What nodes have sent and nobody has taken yet; an actor on the node of the process that takes it."""

    def __init__(self) -> None:
        self._letters: list[tuple[str, int, Event]] = []

    def put(self, run_id: str, attempt: int, event: Event) -> None:
        """Add an event of an attempt at a run."""
        self._letters.append((run_id, attempt, event))

    def take(self) -> list[tuple[str, int, Event]]:
        """Return all that came since the last time, in order."""
        letters, self._letters = self._letters, []
        return letters


class Cluster:
    """The tasks of this process on a cluster that Ray is connected to.

    Attributes:
        going: the order that each unfinished task fulfils.
    """

    def __init__(self, ray: Any, ship_data: bool, checkpoint_every: int | None) -> None:
        here = ray.get_runtime_context().get_node_id()
        pinned = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
        self._ray, self._ship_data, self._every = ray, ship_data, checkpoint_every
        self._box = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=pinned).remote()
        self._images: dict[str, Any] = {}
        self.going: dict[Any, Order] = {}

    def has_room(self, run: Run) -> bool:
        """Return whether another task should be submitted: one more than fits, so that no node waits for the next.

        Raises:
            DmlBenchError: if no node could ever take the run and nothing else is going on.
        """
        need = need_of(run)
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        fits = sum(int(min(node.get(kind, 0) / amount for kind, amount in need.items())) for node in nodes)
        if not fits and not self.going:
            wanted = " and ".join(f"{amount:g} {kind}" for kind, amount in need.items())
            raise DmlBenchError(f"no node of the cluster has {wanted}, as resources of the recipe ask for a run")
        return len(self.going) <= fits

    def submit(self, run: Run, attempt: int, files: Files) -> None:
        """Begin a run, or go on with one from the files of its work folder."""
        need, split = need_of(run), load_split(run.recipe)
        env = {"OMP_WAIT_POLICY": "passive", **{name: os.environ[name] for name in PASSED_ON if name in os.environ}}
        task = self._ray.remote(_task).options(
            num_cpus=need["CPU"], num_gpus=need.get("GPU", 0), max_retries=0, runtime_env={"env_vars": env}
        )
        order = Order(run, attempt, files, split.digest, code_digest(), self._every)
        self.going[task.remote(order, self._box, self._shipped(run, split) if self._ship_data else None)] = order

    def ended(self) -> list[Any]:
        """Return the tasks that have ended, after a while."""
        if not self.going:
            time.sleep(LOOK)  # others are doing what is left
            return []
        ready, _ = self._ray.wait(list(self.going), num_returns=len(self.going), timeout=PAUSE)
        return list(ready)

    def outcomes(self, ended: Iterable[Any]) -> Iterator[tuple[Run, Files | Died]]:
        """Yield the runs whose tasks have ended, with what they would publish, or how they were lost.

        Raises:
            DmlBenchError: if a node says that it cannot do a run, such as for want of space on its disk.
        """
        for ref in ended:
            yield self.going[ref].run, self._outcome(ref)

    def heard(self) -> Iterator[tuple[Run, Event]]:
        """Yield what has come from attempts that are going on; what others still send is not heard."""
        current = {(order.run.run_id, order.attempt): order.run for order in self.going.values()}
        for run_id, attempt, event in self._ray.get(self._box.take.remote()):
            if (run_id, attempt) in current:
                yield current[run_id, attempt], event

    def cancel(self) -> None:
        """End all tasks."""
        for ref in self.going:
            self._ray.cancel(ref, force=True)

    def _outcome(self, ref: Any) -> Files | Died:
        errors = self._ray.exceptions
        try:
            files: Files = self._ray.get(ref)
        except errors.RayTaskError as error:
            if isinstance(error.cause, DmlBenchError):
                raise error.cause from None
            raise
        except errors.RayError as error:
            return Died(str(error).splitlines()[0], str(error), device_of(self.going[ref].run))
        finally:
            del self.going[ref]
        return files

    def _shipped(self, run: Run, split: Split) -> Any:
        """Return the images of a run in the object store; those of one data set at a time stay there."""
        changes = run.recipe.training and run.recipe.training.augmentation
        side = changes.photo_side(split.train.image_shape[0]) if changes and changes.crop != "none" else None
        key = f"{split.digest} {side}"
        if key not in self._images:
            self._images = {key: self._ray.put(in_memory(split, side))}
        return self._images[key]


def _task(order: Order, box: Any, split: Split | None) -> Files:
    """Do a run on the node that Ray has chosen."""

    def tell(event: Event) -> None:  # waiting for the letter's arrival would hand this task's core to another
        box.put.remote(order.run.run_id, order.attempt, dict(event))

    return perform(order, tell, split)


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Give the module ``ray``, connected; what was connected before stays so."""
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError:
        raise DmlBenchError("--runner ray needs Ray: pip install 'dml-bench[ray]'") from None
    if ray.is_initialized():
        yield ray
        return
    _answers(address)
    own: dict[str, Any] = {"num_cpus": available_cores(), "include_dashboard": False} if address is None else {}
    try:
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise DmlBenchError(f"--address {address}: no Ray cluster answers: {error}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _answers(address: str | None) -> None:
    """Refuse an address where nobody listens, for which Ray itself would wait many minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise DmlBenchError(f"--address {address}: nobody answers there: {error}") from None
