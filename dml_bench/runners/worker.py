"""A worker process: reads one run a line, executes it, writes its events a line each.

Started by ``pool.py``. It ends when its standard input does, even in the
middle of a run, so that no run outlives the command that asked for it.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def main() -> None:
    """Serve until standard input ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever libraries print goes to standard error
    orders: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()

    from dml_bench.flow import execute
    from dml_bench.recipe.check import Run
    from dml_bench.recipe.schema import Recipe
    from dml_bench.runners.local import done_event

    def tell(event: Mapping[str, Any]) -> None:
        out.write(json.dumps(event) + "\n")
        out.flush()

    while True:
        order = json.loads(orders.get())
        run = Run(Recipe.model_validate(order["recipe"]), order["options"])
        tell(done_event(execute(run, Path(order["folder"]), device=order["device"], tell=sparsely(tell))))


def sparsely(tell: Any, pause: float = 0.2) -> Any:
    """Pass on every event but steps that follow the last one told within ``pause`` seconds."""
    last = 0.0

    def wrapped(event: Mapping[str, Any]) -> None:
        nonlocal last
        if event["event"] != "step" or time.monotonic() - last >= pause:
            last = time.monotonic()
            tell(event)

    return wrapped


def _listen(orders: queue.Queue[str]) -> None:
    for line in sys.stdin:
        orders.put(line)
    os._exit(0)
