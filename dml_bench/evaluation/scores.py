"""What an evaluation found."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Scores(Mapping[str, float]):
    """Metric names mapped to fractions in [0, 1], in the order asked for; compares as a mapping.

    Attributes:
        metrics: the mapping itself.
        queries: items whose class has another item.
        singletons: items whose class has no other, which are no queries but stay in the gallery.
        per_query: one value per query; ``query`` is its row, ``first_hit_rank`` the rank of the nearest item of its
            class (infinity if beyond the ranked depth), and each ranking metric stands under its name. Empty if
            nothing was ranked.
    """

    metrics: Mapping[str, float]
    queries: int
    singletons: int
    per_query: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> float:
        return self.metrics[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.metrics)

    def __len__(self) -> int:
        return len(self.metrics)

    def table(self) -> str:
        """Write one line per metric and one on what was counted.

        >>> print(Scores({"recall@1": 0.5, "nmi": 0.25}, queries=4, singletons=1).table())
        recall@1  0.5000
        nmi       0.2500
        4 queries; 1 item without a partner
        """
        width = max(map(len, self.metrics))
        lines = [f"{name:<{width}}  {value:.4f}" for name, value in self.metrics.items()]
        items = "item" if self.singletons == 1 else "items"
        return "\n".join([*lines, f"{self.queries} queries; {self.singletons} {items} without a partner"])

    def to_json(self) -> str:
        """Write metrics and counts, without ``per_query``, as JSON; NaN is null."""
        metrics = {name: None if math.isnan(value) else value for name, value in self.metrics.items()}
        values = {"metrics": metrics, "queries": self.queries, "singletons": self.singletons}
        return json.dumps(values, indent=1, allow_nan=False)
