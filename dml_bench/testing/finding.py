"""One thing found out about a loss."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What one check said.

    Args:
        kind: what sort of check: contract, value, gradient, gradcheck, identity, order, invariant, float32,
            poles, scores, pixels, upkeep, library, deviation, error.
        what: what was compared, on which case.
        passed: whether it holds.
        error: the error measured, where one was.
        bound: the largest error that passes.
        note: what to tell besides.
    """

    kind: str
    what: str
    passed: bool
    error: float | None = None
    bound: float | None = None
    note: str = ""

    @property
    def share(self) -> float:
        """The part of its bound that the error takes; infinite for an error that is not a number."""
        share = (self.error or 0.0) / (self.bound or 1.0)
        return math.inf if math.isnan(share) else share

    def __str__(self) -> str:
        error = "" if self.error is None else f": error {self.error:.1e}, allowed {self.bound:.0e}"
        return f"{self.kind}: {self.what}{error}{': ' if self.note else ''}{self.note}"


def measured(kind: str, what: str, error: float, bound: float) -> Finding:
    """Return the finding that passes when ``error <= bound``; NaN never does."""
    return Finding(kind, what, error <= bound, error, bound)


def short(value: object) -> str:
    """Write the value of an option without the digits that nobody reads."""
    return f"{value:.6g}" if isinstance(value, float) and len(repr(value)) > 8 else str(value)
