"""What an evaluation found."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float64, Int64

SPREAD = "_restart_std"
"""What follows the name of a cluster metric in that of its spread over k-means restarts."""


@dataclass(frozen=True, eq=False)
class Scores(Mapping[str, float]):
    """Metric names mapped to their values, in the order asked for; compares as a mapping.

    Attributes:
        metrics: the mapping itself.
        queries: items that ask: those that have another item of their class to find.
        singletons: items that would ask but have none; they are no queries but stay in the gallery.
        gallery: items that are searched; 0 if that is not known.
        per_query: one value per query; ``query`` is its row, ``label`` its class, ``first_hit_rank`` the rank of the
            nearest item of its class, and each metric that is a mean over queries stands under its name. Empty if no
            such metric was asked for.
        unconverged: k-means restarts whose clusters still changed when their iterations were used up.
    """

    metrics: Mapping[str, float]
    queries: int
    singletons: int
    gallery: int = 0
    per_query: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict, repr=False)
    unconverged: int = 0

    def __getitem__(self, name: str) -> float:
        return self.metrics[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.metrics)

    def __len__(self) -> int:
        return len(self.metrics)

    def per_class(self) -> dict[str, npt.NDArray[Any]]:
        """Return ``label``, the number of ``queries``, and the mean of every value per query, one entry per class."""
        if not self.per_query:
            return {}
        labels = self.per_query["label"]
        counts = np.unique(labels, return_counts=True)[1]
        names = [name for name in self.per_query if name not in ("query", "label", "first_hit_rank")]
        means = {name: class_means(labels, self.per_query[name])[1] for name in names}
        return {"label": np.unique(labels), "queries": counts, **means}

    def table(self) -> str:
        """Write one line per metric and one on what was counted.

        >>> print(Scores({"recall@1": 0.5, "nmi": 0.25}, queries=4, singletons=1).table())
        recall@1  0.5000
        nmi       0.2500
        4 queries; 1 item without a partner
        """
        shown = {name: value for name, value in self.metrics.items() if not name.endswith(SPREAD)}
        width = max(map(len, shown))
        spreads = {name: self.metrics.get(name + SPREAD, math.nan) for name in shown}
        ends = {name: "" if math.isnan(std) else f" ± {std:.4f} over restarts" for name, std in spreads.items()}
        lines = [f"{name:<{width}}  {value:.4f}{ends[name]}" for name, value in shown.items()]
        items = "item" if self.singletons == 1 else "items"
        among = f" among {self.gallery} items" if self.gallery else ""
        return "\n".join([*lines, f"{self.queries} queries{among}; {self.singletons} {items} without a partner"])

    def to_json(self) -> str:
        """Write metrics and counts, without ``per_query``, as JSON; NaN is null."""
        metrics = {name: None if math.isnan(value) else value for name, value in self.metrics.items()}
        counts = {"queries": self.queries, "singletons": self.singletons, "gallery": self.gallery}
        return json.dumps({"metrics": metrics, **counts}, indent=1, allow_nan=False)

    def to_csv(self) -> str:
        """Write a line of names and one of values; a value that does not exist is empty."""
        row = {name: "" if math.isnan(value) else repr(value) for name, value in self.metrics.items()}
        return as_csv(
            [*row, "queries", "singletons", "gallery"], [[*row.values(), self.queries, self.singletons, self.gallery]]
        )


def class_means(
    classes: Int64[np.ndarray, " Q"], values: Float64[np.ndarray, " Q"]
) -> tuple[Int64[np.ndarray, " C"], Float64[np.ndarray, " C"]]:
    """Return the classes there are, and the mean of the values of each."""
    found, codes, counts = np.unique(classes, return_inverse=True, return_counts=True)
    return found, np.bincount(codes, values) / counts


def as_csv(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Write a table as CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return stream.getvalue()
