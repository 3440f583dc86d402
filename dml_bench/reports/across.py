"""What several data sets say of the losses that they have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dml_bench.reports.measured import of_queries
from dml_bench.reports.options import options_text
from dml_bench.reports.ranking import ALPHA, AcrossDataSets, across_data_sets
from dml_bench.reports.scales import scale_of
from dml_bench.reports.summary import Row, Section

FEATURES = "embeddings"


@dataclass(frozen=True)
class Across:
    """Losses ranked over data sets.

    Attributes:
        names: of the losses with their options, in the order of ``result``.
        rows: of the first section, in the same order.
        sections: one per data set.
        result: ranks and tests.
        left_out: of the losses that are not everywhere with the same options, or lack the metric.
    """

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    sections: tuple[Section, ...]
    result: AcrossDataSets
    left_out: tuple[str, ...]

    @property
    def order(self) -> list[int]:
        """The places of the losses in ``names``, the best first."""
        return sorted(range(len(self.names)), key=lambda i: self.result.ranks[i])

    @property
    def told(self) -> str:
        """The pairs that Wilcoxon's test tells apart, corrected by Holm; if there are none, whether any could be."""
        names, pairs, least = self.names, self.result.pairs, self.result.least
        if found := [f"{names[i]} and {names[j]}" for (i, j), p in pairs.items() if p < ALPHA]:
            return ", ".join(found)
        few = f" (so few data sets, {len(self.sections)}, cannot tell any of {len(pairs)} pairs apart this way: "
        return "none" + (f"{few}p is {least:.2g} at least)" if least >= ALPHA else "")


def ranked_across(found: Sequence[Section], metric: str) -> Across | None:
    """Rank losses over data sets, if two or more have three or more in common under one protocol each.

    ``embeddings`` is left out: features of some other data set's images say little that is independent of it. So is a
    metric that is not read off queries: k-means alone moves nmi by points.
    """
    once = [s for s in found if [o.dataset for o in found].count(s.dataset) == 1 and s.dataset != FEATURES]
    kept = [s for s in once if metric in s.metrics]
    scores = [{name: row.mean(metric) for name, row in _by_name(s).items()} for s in kept]
    known = [{name: mean for name, mean in s.items() if not math.isnan(mean)} for s in scores]
    names = [name for name in known[0] if all(name in s for s in known)] if known else []
    better = scale_of(metric).better
    if len(kept) < 2 or len(names) < 3 or better is None or not of_queries(metric):
        return None
    sign = 1 if better == "higher" else -1
    result = across_data_sets(np.array([[sign * s[name] for name in names] for s in scores]))
    left_out = dict.fromkeys(name for s in scores for name in s if name not in names)
    rows = _by_name(kept[0])
    return Across(tuple(names), tuple(rows[name] for name in names), tuple(kept), result, tuple(left_out))


def _by_name(section: Section) -> dict[str, Row]:
    """Return the trained rows by what their recipes name: a default that one table spells out, another need not."""
    trained = [row for row in section.rows if not row.is_reference]
    short = [_name(row.loss, options_text(row.runs[0].options)) for row in trained]
    return {name if short.count(name) == 1 else row_name(row): row for name, row in zip(short, trained, strict=True)}


def row_name(row: Row) -> str:
    """Name a row by its loss and options."""
    return _name(row.loss, row.options)


def _name(loss: str, options: str) -> str:
    return f"{loss} ({options})" if options else loss
