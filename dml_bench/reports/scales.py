"""How the values of a metric are shown: in percent or as they are, and which of them is best. Needs no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from dml_bench.errors import OptionError
from dml_bench.evaluation.metrics import parse_metric
from dml_bench.evaluation.scores import SPREAD

MISSING = "–"
IN_PERCENT = re.compile(r"ari|ami(_\w+)?")
"""Metrics that papers give in percent though they are no shares: chance level is 0, and values may be negative."""


@dataclass(frozen=True)
class Scale:
    """How a metric is shown.

    Args:
        better: which values are better; None where neither is.
        percent: whether values are shown times 100.
        bounded: whether values lie in [0, 1].
    """

    better: Literal["higher", "lower"] | None = "higher"
    percent: bool = True
    bounded: bool = True

    def shown(self, value: float) -> float:
        """Return the number to show for a value."""
        return 100 * value if self.percent else value

    def texts(self, values: Iterable[float], decimals: int) -> list[str]:
        """Write values, as many decimals each; nan is a dash."""
        return [MISSING if math.isnan(value) else f"{self.shown(value):.{decimals}f}" for value in values]

    def decimals(self, values: Iterable[float]) -> int:
        """Return one decimal for percent, else as many as show three digits of the largest of ``values``."""
        largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
        return 1 if self.percent or not largest else max(0, 2 - math.floor(math.log10(largest)))

    def best(self, values: Sequence[float]) -> float:
        """Return the best of ``values``; nan where there is none, or no value is better than another."""
        if not values or self.better is None:
            return math.nan
        return max(values) if self.better == "higher" else min(values)

    def badness(self, value: float) -> float:
        """Return what is smaller for better values, and infinite for nan."""
        return math.inf if math.isnan(value) else value if self.better == "lower" else -value


def scale_of(name: str) -> Scale:
    """Return how a metric is shown; one that this version does not know is a share, and higher is better."""
    try:
        metric = parse_metric(name)
    except OptionError:
        return Scale()
    return Scale(metric.better, metric.share or bool(IN_PERCENT.fullmatch(name)), metric.share)


def is_spread(name: str) -> bool:
    """Tell whether a recorded name is the spread of a metric over k-means restarts, which is no quality of its own."""
    return name.endswith(SPREAD)
