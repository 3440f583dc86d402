"""Whether a training loss still fell when training ended."""

from __future__ import annotations

import math

from dml_bench.reports.summary import Row
from dml_bench.results.record import RunRecord

FALL = 0.02
"""A loss that fell by more than this share in the last tenth of training was not done."""


def last_fall(run: RunRecord) -> float | None:
    """Return by what share of its amount the loss fell in the last tenth of training; None of a single epoch.

    Means over the last tenth of the epochs and over the tenth before it are compared, as single epochs are noisy. Of
    fewer than ten epochs it is the fall from the last but one to the last, times the share of it that a tenth is.
    """
    epochs = len(run.curve)
    tenth = max(1, epochs // 10)
    if epochs < 2:
        return None
    last = math.fsum(epoch.loss for epoch in run.curve[-tenth:])
    before = math.fsum(epoch.loss for epoch in run.curve[-2 * tenth : -tenth])
    fall = (before - last) * min(1.0, epochs / 10)
    return fall / abs(before) if before and math.isfinite(fall) else None


def still_falling(row: Row) -> int:
    """Return of how many runs of a row the loss still fell by more than ``FALL`` in the last tenth of training."""
    falls = [last_fall(run) for run in row.finished]
    return sum(fall is not None and fall > FALL for fall in falls)
