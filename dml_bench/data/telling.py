"""Tell how far a long piece of work is, on the standard error stream. Needs no torch."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 2.0
"""Seconds of silence; a terminal is then told ten times a second, a file every 10 s."""


def telling(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield ``items``, and tell how many of ``total`` are done, how fast it goes and how long it will take."""
    start = time.perf_counter()
    terminal = sys.stderr.isatty()
    pause, last, told = (0.1 if terminal else 10.0), start + PATIENCE, False
    for done, item in enumerate(items, 1):
        yield item
        now = time.perf_counter()
        if now - last >= pause or (told and done == total):
            rate = done / (now - start)
            line = f"{what}: {done} of {total} images, {rate:.0f}/s, {_duration((total - done) / rate)} left"
            sys.stderr.write(f"\r{line}\x1b[K" if terminal else f"{line}\n")
            sys.stderr.flush()
            last, told = now, True
    if told and terminal:
        sys.stderr.write("\n")


def tell(line: str) -> None:
    """Write one line."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
