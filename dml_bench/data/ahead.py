"""Make the next batch ready while a device works on the one before."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

import torch

T = TypeVar("T")


def ahead(items: Iterator[T], device: torch.device) -> Iterator[T]:
    """Yield ``items``; for a GPU, each is made while the caller works on the one before.

    On the CPU that would take cores from the network, beyond the threads that the recipe allows.
    """
    return in_a_thread(items) if device.type == "cuda" else items


def in_a_thread(items: Iterator[T]) -> Iterator[T]:
    """Yield ``items``, each made in a thread while the caller works on the one before.

    An error is raised where its item would have come. Whoever stops early waits for at most one item.
    """
    end = object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield cast(T, item)
