"""One run on several devices: who takes part, and how the processes ("ranks") of a run add up to one.

What is computed is what a single process computes, up to rounding. With N images in a batch and R ranks:

- Every rank draws the same batch. Rank r embeds only the images of ``share(N)``; the shares are in order, of nearly
  equal size, without overlap, and cover the batch.
- ``gathered`` puts the embeddings E of all shares together, so that every rank computes the SAME loss L(E, w) of the
  whole batch: pairs, triplets and centers see all of it.
- The gradient of the network is the sum over ranks of (dE_r/dtheta)' (dL/dE_r). ``gathered`` hands rank r just its own
  rows dL/dE_r: every rank has computed L, which must count once, so gradients are not summed on the way back through
  it. What remains is to SUM the network's gradients over ranks (``add_up``), without dividing.
- The gradient of the loss's own parameters w is whole on every rank already; rank 0's is taken (``from_first``), so
  that centers are bit-identical everywhere.

Differs: torch's DistributedDataParallel divides that sum by R (right for a mean of R losses, R times too small for one
loss of the whole batch), and reduces in every backward pass, while a step here may have several: parts of a batch,
accumulated batches, epochs in which only the head has a gradient. One explicit sum before clipping is exact in all of
these. torch.distributed.nn's all_gather is deprecated, and sums on the way back.

Outside of ``joined`` there is one rank, and nothing here changes or copies anything.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count as counter
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from dml_bench.errors import DmlBenchError

TIMEOUT = timedelta(minutes=3)
"""How long a rank waits for another in the middle of a step; one that died is noticed at once."""
PAUSE = 0.02
"""Seconds between two looks for a message."""


class RankError(DmlBenchError):
    """Another rank is gone. The run is not recorded as failed: the same command goes on from here."""

    exit_code = 1


@dataclass
class Board:
    """Short messages between the ranks, for as long as it takes: torchrun's key-value store behind it.

    Unlike a collective operation, waiting for a message has no time limit: rank 0 may score for an hour. If a rank
    dies, torchrun ends the ones that wait.
    """

    store: Any
    name: str
    numbers: Iterator[int] = field(default_factory=counter)

    def write(self, key: str, value: Any) -> None:
        """Leave a JSON value for whoever looks."""
        self.store.set(f"{self.name}/{key}", json.dumps(value))

    def read(self, key: str, seconds: float | None = None) -> Any:
        """Return the value of ``key`` once it is there.

        Raises:
            RankError: if it is not there after ``seconds``, or whoever keeps the messages is gone.
        """
        end = None if seconds is None else time.monotonic() + seconds
        with _watched():
            while not self.store.check([f"{self.name}/{key}"]):
                if end is not None and time.monotonic() > end:
                    raise RankError(f"no word from another rank within {seconds:g} s ({key}); {AGAIN}")
                time.sleep(PAUSE)
            return json.loads(self.store.get(f"{self.name}/{key}"))


AGAIN = "the same torchrun command goes on from the runs that are done"
_boards: list[Board] = []


def launched() -> tuple[int, int]:
    """Return this process's rank and how many there are, as torchrun says: (0, 1) without it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def here() -> int:
    """Return which rank this is: 0 leads, publishes and reports."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """Return how many ranks do this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def joined(store: Any, rank: int, count: int, device: torch.device, timeout: timedelta = TIMEOUT) -> Iterator[None]:
    """Be one of ``count`` ranks for a while: over gloo on the CPU, over nccl on GPUs.

    Args:
        store: torch's key-value store that all of them see.
        rank: which one this is.
        count: how many there are.
        device: where this rank computes.
        timeout: how long to wait for another rank in one operation.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    with _watched():
        dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=timeout)
    _boards.append(Board(store, "start"))
    try:
        yield
    finally:
        _boards.pop()
        dist.destroy_process_group()


def begin(name: str) -> None:
    """Begin to count messages anew, under another name: all ranks do so before each run, however the last one ended."""
    _boards[-1] = Board(_boards[-1].store, name)


def share(size: int, rank: int | None = None) -> slice:
    """Return which of ``size`` things in a row are a rank's own: contiguous shares that differ by at most one."""
    own = here() if rank is None else rank
    return slice(size * own // count(), size * (own + 1) // count())


def gathered(own: Float[Tensor, "n D"], size: int) -> Float[Tensor, "N D"]:
    """Return the rows of all ranks' shares of ``size``; back goes to each rank the gradient of its own rows.

    Raises:
        RankError: if another rank is gone.
    """
    if count() == 1:
        return own
    rows: Tensor = _Gather.apply(own, size)  # type: ignore[no-untyped-call]
    return rows


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, size: int) -> Tensor:
        ctx.share = share(size)
        return _all_gathered(own, [share(size, other) for other in range(count())])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0][ctx.share], None


def _all_gathered(own: Tensor, shares: Sequence[slice]) -> Tensor:
    sizes = [part.stop - part.start for part in shares]
    padded = own.new_zeros(max(sizes), *own.shape[1:])  # shares may differ in size, messages may not
    padded[: len(own)] = own
    parts = [torch.empty_like(padded) for _ in sizes]
    with _watched():
        dist.all_gather(parts, padded)
    return torch.cat([part[:length] for part, length in zip(parts, sizes, strict=True)])


def blocks(size: int, block: int, rank: int | None = None) -> slice:
    """Return which of ``size`` rows are a rank's own, in whole blocks; all, where there are fewer blocks than ranks."""
    many = -(-size // block)
    if many < count():
        return slice(0, size)
    own = share(many, rank)
    return slice(own.start * block, min(own.stop * block, size))


def gathered_blocks(
    own: Sequence[Float[Tensor, "_ D"]], size: int, block: int, device: torch.device
) -> Float[Tensor, "N D"]:
    """Put the rows of all ranks' ``blocks`` together, without gradients; the result is where ``own`` is.

    Args:
        own: the rank's rows, in any number of parts.
        size: how many rows there are in all.
        block: rows that stay together.
        device: what messages go through: with nccl a GPU.
    """
    rows = torch.cat(list(own))
    if count() == 1 or len(rows) == size:
        return rows
    return _all_gathered(rows.to(device), [blocks(size, block, other) for other in range(count())]).to(rows.device)


def summed(own: Tensor) -> Tensor:
    """Return the sum over ranks; back goes the sum of the gradients, as each rank's result depends on every rank."""
    total: Tensor = _Sum.apply(own) if count() > 1 else own  # type: ignore[no-untyped-call]
    return total


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        return _all_reduced(own)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _all_reduced(gradients[0])


def _all_reduced(own: Tensor) -> Tensor:
    total = own.clone(memory_format=torch.contiguous_format)
    with _watched():
        dist.all_reduce(total)
    return total


@torch.no_grad()
def add_up(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over ranks, the same bits on all of them; one message per number format."""
    if count() > 1:
        for alike in _by_format(tensors):
            flat = _all_reduced(torch.cat([tensor.reshape(-1) for tensor in alike]))
            for tensor, part in zip(alike, torch.split(flat, [tensor.numel() for tensor in alike]), strict=True):
                tensor.copy_(part.view(tensor.shape))


@torch.no_grad()
def from_first(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by what rank 0 has; sparse ones have the same rows on all ranks, and only their values go."""
    if count() > 1:
        for tensor in tensors:
            whole = tensor._values() if tensor.is_sparse else tensor
            sent = whole.contiguous()
            with _watched():
                dist.broadcast(sent, 0)
            whole.copy_(sent)


def agreed(compute: Callable[[], Any]) -> Any:
    """Return what rank 0 computes, a JSON value, on every rank; the others wait without computing.

    Raises:
        DmlBenchError: on every rank, if rank 0 failed.
    """
    if count() == 1:
        return compute()
    board = _boards[-1]
    key = f"agreed/{next(board.numbers)}"
    if here() == 0:
        try:
            value = compute()
        except Exception as error:
            board.write(key, {"failed": f"{type(error).__name__}: {error}"})
            raise
        board.write(key, {"value": value})
        return value
    said = board.read(key)
    if "failed" in said:
        raise DmlBenchError(f"on rank 0: {said['failed']}")
    return said["value"]


def _by_format(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    groups: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.dtype, []).append(tensor)
    return list(groups.values())


@contextmanager
def _watched() -> Iterator[None]:
    """Say in plain words that another rank is gone."""
    try:
        yield
    except DmlBenchError:
        raise
    except (dist.DistError, RuntimeError) as error:
        raise RankError(f"rank {here()} lost another rank ({str(error).splitlines()[0]}); {AGAIN}") from error
