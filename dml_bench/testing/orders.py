"""Options that must move a loss one way only: a larger margin never makes it smaller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from dml_bench.testing.cases import Batch, make

MARGINS = (0.0, 0.1, 0.3, 0.8, 1.5)


@dataclass(frozen=True)
class Order:
    """The loss ``key`` does not fall along ``steps`` of ``option``.

    Args:
        key: the loss.
        option: what changes.
        steps: its values, so that the loss rises.
        fixed: the other options.
    """

    key: str
    option: str
    steps: Sequence[float] = MARGINS
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def holds(self, case: Batch) -> bool:
        """Tell whether the loss rises, up to rounding, on one batch."""
        values = [make(self.key, **{self.option: step, **self.fixed})(case.x, case.y).item() for step in self.steps]
        return all(low <= high + 1e-12 * max(1.0, abs(high)) for low, high in pairwise(values))

    def __str__(self) -> str:
        fixed = "".join(f", {name}={value}" for name, value in self.fixed.items())
        return f"{self.option} = {', '.join(map(str, self.steps))}{fixed}"


def orders(key: str) -> list[Order]:
    """Return the orders that the loss ``key`` must keep."""
    return [order for order in ALL if order.key == key]


ALL = [
    *(Order(key, "margin") for key in ("am_softmax", "softtriple", "hardtriple", "sm_softmax", "proxy_anchor")),
    *(Order(key, "margin", fixed={"overflow": mode}) for key in ("arcface",) for mode in ("insightface", "continuous")),
    Order("subcenter_arcface", "margin"),
    Order("c_contrastive", "margin", MARGINS[1:]),
    Order("c_triplet", "margin"),
    Order("em_softmax", "margin"),
    Order("triplet_all", "margin", fixed={"reduction": "mean"}),
    Order("triplet_batch_hard", "margin"),
    Order("l_softmax", "margin", (1.0, 2.0, 3.0, 4.0, 5.0), {"annealing": 0.0}),
    Order("a_softmax", "margin", (1.0, 2.0, 3.0, 4.0, 5.0), {"annealing": 0.0}),
    Order("ohem", "keep_ratio", (1.0, 0.7, 0.4, 0.1)),
    *(Order(key, "t", (1.0, 1.1, 1.5, 3.0)) for key in ("sv_softmax", "sv_am_softmax", "sv_arc_softmax")),
]
