"""A Ray cluster as the runner sees it: where there is room, what goes on there, what is heard from it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dml_bench.data.dataset import Split
from dml_bench.data.shipping import in_memory
from dml_bench.errors import DmlBenchError
from dml_bench.recipe.check import Run
from dml_bench.results.environment import available_cores
from dml_bench.runners.local import LOOK, Event
from dml_bench.runners.node import Files, Order, code_digest, device_of, need_of, perform
from dml_bench.runners.pool import Died
from dml_bench.splits import load_split

PAUSE = 0.2
"""Longest wait between two looks at what has come, seconds."""

STOPS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

PASSED_ON = ("CUBLAS_WORKSPACE_CONFIG",)
"""Variables of this process's environment that its tasks get, besides where data lies."""


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
    """The tasks of this process on a cluster that Ray is connected to; to be closed, which ends them.

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
        task = self._ray.remote(_task).options(
            num_cpus=need["CPU"], num_gpus=need.get("GPU", 0), max_retries=0, runtime_env={"env_vars": _variables()}
        )
        order = Order(_rooted(run), attempt, files, split.digest, code_digest(), self._every)
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

    def close(self) -> None:
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
            said = str(error).strip().splitlines()[-1]
            raise DmlBenchError(f"a node cannot do {self.going[ref].run.run_id}: {said}") from error
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


def _variables() -> dict[str, str]:
    """Return the environment of tasks; they work in another folder than this process."""
    given = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    root = os.environ.get("DML_BENCH_DATA")
    return {"OMP_WAIT_POLICY": "passive", **given, **({"DML_BENCH_DATA": str(Path(root).absolute())} if root else {})}


def _rooted(run: Run) -> Run:
    """Return a run whose data a process that works in another folder finds."""
    root = run.recipe.data_root
    here = {"data_root": str(Path(root).absolute())} if root else {}
    return Run(run.recipe.model_copy(update=here), run.options)


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
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
        with _same_signals():
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, ImportError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        hint = "; one that asks for a token needs RAY_AUTH_MODE=token here" if address else ""
        raise DmlBenchError(f"--address {address}: no Ray cluster answers: {error}{hint}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _same_signals() -> Iterator[None]:
    """Keep the handlers of signals: Ray would set its own, by which a command ends before it gives anything back."""
    before = {number: signal.getsignal(number) for number in STOPS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler is not None:
                    signal.signal(number, handler)


def _answers(address: str | None) -> None:
    """Refuse an address where nobody listens, for which Ray itself would wait many minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise DmlBenchError(f"--address {address}: nobody answers there: {error}") from None
