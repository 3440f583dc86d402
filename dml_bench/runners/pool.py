"""Worker processes, each doing one order after the other; the death of one harms no other.

Workers are fresh interpreters: a fork after OpenMP work hangs, and thread counts must be set before libraries load.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

START = "import sys; sys.path[:] = sys.argv[1].split('\\n'); from dml_bench.runners.worker import main; main()"
"""Workers import what their parent would, not what happens to lie in the current folder."""


@dataclass(frozen=True)
class Died:
    """A worker is gone: why, and the end of what it wrote to standard error."""

    reason: str
    stderr: str


class Pool:
    """At most ``size`` worker processes; use as a context manager, which ends them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._events: queue.Queue[tuple[_Worker, Any]] = queue.Queue()
        self._workers: list[_Worker] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.stop()

    def map(self, orders: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
        """Execute ``orders`` and yield (key, event) as events come; a ``done`` event or ``Died`` ends each key."""
        waiting = list(orders.items())
        busy: dict[_Worker, str] = {}
        while waiting and len(busy) < self._size:
            self._start(busy, *waiting.pop(0))
        while busy:
            worker, event = self._events.get()
            if worker not in busy:
                continue  # an idle worker that has ended
            key = busy[worker]
            yield key, event
            if isinstance(event, Died):
                del busy[worker]
                worker.stop()
                self._workers.remove(worker)
                if waiting:
                    self._start(busy, *waiting.pop(0))
            elif event["event"] == "done":
                del busy[worker]
                if waiting:
                    busy[worker] = waiting[0][0]
                    worker.order(waiting.pop(0)[1])

    def _start(self, busy: dict[_Worker, str], key: str, order: Mapping[str, Any]) -> None:
        worker = _Worker(self._events)
        self._workers.append(worker)
        busy[worker] = key
        worker.order(order)


class _Worker:
    """One process, and a thread that turns its output into events."""

    def __init__(self, events: queue.Queue[tuple[_Worker, Any]]) -> None:
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, "\n".join(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env={**os.environ, "OMP_WAIT_POLICY": "passive"},
            start_new_session=True,  # Ctrl-C is for the parent, which then ends its workers
        )
        self._listener = threading.Thread(target=self._listen, args=(events,), daemon=True)
        self._listener.start()

    def order(self, order: Mapping[str, Any]) -> None:
        """Hand the worker its next order."""
        with suppress(BrokenPipeError):  # it is dead, and the listening thread says so
            self._pipe.write(json.dumps(order) + "\n")
            self._pipe.flush()

    def stop(self) -> None:
        """End the process, whatever it is doing, and let go of its files."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        with suppress(BrokenPipeError):
            self._pipe.close()
        for stream in (self._process.stdout, self._errors):
            if stream:
                stream.close()

    @property
    def _pipe(self) -> Any:
        return self._process.stdin

    def _listen(self, events: queue.Queue[tuple[_Worker, Any]]) -> None:
        try:
            for line in self._process.stdout or ():
                events.put((self, json.loads(line)))
        except ValueError:  # a line cut off in the middle
            self._process.kill()
        code = self._process.wait()
        self._errors.seek(0)
        stderr = self._errors.read()[-20_000:].strip()
        reason = _signal_name(-code) if code < 0 else f"exit status {code}"
        events.put((self, Died(": ".join([reason, *stderr.splitlines()[-1:]]), stderr)))


def _signal_name(number: int) -> str:
    known = {item.value: item.name for item in signal.Signals}
    return f"killed by {known.get(number, f'signal {number}')}"
