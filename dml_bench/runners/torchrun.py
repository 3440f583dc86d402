"""A grid under ``torchrun``: rank 0 goes through it, and the other ranks do their part of one run after the other.

``torchrun --nproc-per-node 2 -m dml_bench run RECIPE`` starts the same command in every process. Rank 0 does what the
command says, alone publishes, prints and reports; the others wait for its orders. A rank that dies takes the others
with it, and what rank 0 had published stays.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from itertools import count as counter
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from dml_bench.errors import DmlBenchError
from dml_bench.flow import assist, execute
from dml_bench.ranks import TIMEOUT, Board, RankError, begin, joined, launched
from dml_bench.recipe.check import Run
from dml_bench.recipe.schema import Recipe
from dml_bench.runners.local import done_event
from dml_bench.runners.plan import Plan

GRACE = 20.0
"""Seconds for the ranks to agree that a run has ended, where one of them failed."""

_numbers = counter()


def together(command: Callable[[], object]) -> None:
    """Run ``command`` on rank 0, and let the other ranks help with its runs until it ends."""
    if launched()[0]:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)  # a helper has nothing to save
        _serve()
        return
    try:
        command()
    finally:
        _board().write(f"order/{next(_numbers)}", None)


def lead(
    grid: Plan,
    todo: Sequence[Run],
    device: str,
    show: Callable[[Run, Mapping[str, Any]], None],
    checkpoint_every: int | None = None,
) -> None:
    """Execute ``todo``, one run after the other, each on all ranks; ``show`` receives every run's events.

    Args:
        grid: where the runs go.
        todo: what is to be done.
        device: ``cpu``, or ``cuda`` for a GPU per rank.
        show: as of a progress display.
        checkpoint_every: optimizer steps between checkpoints; see ``flow.execute``.

    Raises:
        RankError: if another rank is gone, or did not end a run as this one did.
        DmlBenchError: if there is no GPU for every rank.
    """
    where, (_, count) = own_device(device), launched()
    board = _board()
    with ExitStack() as stack:
        for item in todo:
            number = next(_numbers)
            recipe = {"recipe": item.recipe.document(), "options": dict(item.options)}
            board.write(f"order/{number}", {**recipe, "folder": str(grid.folder.resolve()), "device": device})
            if not dist.is_initialized():
                stack.enter_context(joined(_store(), 0, count, torch.device(where)))
            begin(f"run/{number}")
            record = execute(
                item, grid.folder, device=where, tell=partial(show, item), checkpoint_every=checkpoint_every
            )
            show(item, done_event(record))
            board.write(f"ended/{number}", record.status)
            for other in range(1, count):
                board.read(f"ended/{number}/{other}", GRACE)


def own_device(device: str) -> str:
    """Return where this rank computes: with ``cuda``, the GPU of its number on this machine.

    Raises:
        DmlBenchError: for one GPU by number, or if there are fewer GPUs than ranks on this machine.
    """
    if device == "cpu":
        return device
    if device != "cuda":
        raise DmlBenchError(f"--device {device}: every rank takes a GPU of its own; give cuda or cpu under torchrun")
    ranks, found = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if ranks > found:
        raise DmlBenchError(f"--device cuda: torchrun started {ranks} ranks here, and there are {found} CUDA devices")
    return f"cuda:{os.environ['LOCAL_RANK']}"


def _serve() -> None:
    rank, count = launched()
    board = _board()
    with ExitStack() as stack:
        for number in counter():
            order = board.read(f"order/{number}")
            if order is None:
                return
            where = own_device(order["device"])
            if not dist.is_initialized():
                stack.enter_context(joined(_store(), rank, count, torch.device(where)))
            begin(f"run/{number}")
            run = Run(Recipe.model_validate(order["recipe"]), order["options"])
            try:
                assist(run, Path(order["folder"]), device=where)
            except RankError:
                raise
            except DmlBenchError as error:
                print(f"rank {rank}: {error}", file=sys.stderr)  # noqa: T201
                board.read(f"ended/{number}", GRACE)
            board.write(f"ended/{number}/{rank}", "ended")


def _board() -> Board:
    return Board(_store(), "orders")


@cache
def _store() -> Any:
    """Return torchrun's store, which lives in torchrun itself and so outlives every rank."""
    store, _, _ = next(rendezvous("env://", *launched(), timeout=TIMEOUT))
    return store
