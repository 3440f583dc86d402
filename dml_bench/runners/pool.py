"""Worker processes, each doing one order after the other on the device it was leased; the death of one harms no other.

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
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

START = "import sys; sys.path[:] = sys.argv[1].split('\\n'); from dml_bench.runners.worker import main; main()"
"""Workers import what their parent would, not what happens to lie in the current folder."""


@dataclass(frozen=True)
class Died:
    """A worker is gone: why, the end of what it wrote to standard error, its device, and whether its time was up."""

    reason: str
    stderr: str
    device: str = "cpu"
    timed_out: bool = False


class Pool:
    """Worker processes, as many as ``devices`` are named; use as a context manager, which ends them.

    Args:
        devices: what each worker computes on; one that is named twice is shared by two.
        timeout: seconds that an order may take, counted from its first event; then its worker is killed.
    """

    def __init__(self, devices: Sequence[str], timeout: float | None = None) -> None:
        self._free, self._timeout = list(devices), timeout
        self._events: queue.Queue[tuple[_Worker, Any]] = queue.Queue()
        self._idle: list[_Worker] = []
        self._busy: dict[_Worker, str] = {}

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        workers = [*self._idle, *self._busy]
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.stop()

    @property
    def room(self) -> bool:
        """Whether another order can be taken."""
        return bool(self._free or self._idle)

    @property
    def going(self) -> bool:
        """Whether orders are being executed."""
        return bool(self._busy)

    def order(self, key: str, order: Mapping[str, Any]) -> None:
        """Have an order executed by a worker that is idle or new, on its device; there must be ``room``."""
        worker = self._idle.pop() if self._idle else _Worker(self._events, self._free.pop(0))
        self._busy[worker] = key
        worker.order(order)

    def event(self, wait: float) -> tuple[str, Any] | None:
        """Return the next (key, event) within ``wait`` seconds; an event with ``ends`` or ``Died`` ends a key."""
        self._end_late_ones()
        try:
            worker, event = self._events.get(timeout=min([wait, *self._times_left()]))
        except queue.Empty:
            return None
        key = self._busy.get(worker)
        if isinstance(event, Died):
            self._busy.pop(worker, None)
            self._idle = [other for other in self._idle if other is not worker]
            self._free.append(worker.device)
            worker.stop()
            event = replace(event, device=worker.device)
            if worker.late:
                event = replace(event, timed_out=True, reason=f"not done within {self._timeout:g} s")
        elif event.get("ends"):
            del self._busy[worker]
            if not worker.late:
                self._idle.append(worker)
        return None if key is None else (key, event)

    def _times_left(self) -> list[float]:
        began = [worker.began for worker in self._busy if worker.began is not None and not worker.late]
        now = time.monotonic()
        return [max(0.0, start + self._timeout - now) for start in began] if self._timeout else []

    def _end_late_ones(self) -> None:
        for worker in self._busy:
            if self._timeout and worker.began is not None and time.monotonic() - worker.began >= self._timeout:
                worker.late = True
                worker.kill()


class _Worker:
    """One process, and a thread that turns its output into events.

    ``began`` is when the first event of the present order came, ``late`` whether it was killed for taking too long.
    """

    def __init__(self, events: queue.Queue[tuple[_Worker, Any]], device: str) -> None:
        self.device, self.late = device, False
        self.began: float | None = None
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
        self.began, order = None, {**order, "device": self.device}
        with suppress(BrokenPipeError):  # it is dead, and the listening thread says so
            self._pipe.write(json.dumps(order) + "\n")
            self._pipe.flush()

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()

    def stop(self) -> None:
        """End the process and let go of its files."""
        self.kill()
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
                event = json.loads(line)
                self.began = time.monotonic() if self.began is None else self.began
                events.put((self, event))
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
