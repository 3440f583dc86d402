"""What a table says beside a row's numbers: that training was no use, or that it was not done."""

from __future__ import annotations

import math
from collections.abc import Iterator

from dml_bench.reports.falling import FALL, still_falling
from dml_bench.reports.scales import scale_of
from dml_bench.reports.summary import Row, Section

MEANINGS = {
    "below": "worse than a row that was not trained, by the mean of the metric that orders the rows",
    "undertrained": f"the training loss still fell by more than {100 * FALL:.0f} percent in the last tenth of training",
}
"""How a mark begins, and what it means."""


def marks(section: Section, row: Row) -> list[str]:
    """Return what is to be said of a row: ``below raw_pixels``, ``undertrained``, with how many runs if not all."""
    if row.is_reference or not row.finished:
        return []
    return [*_below(section, row), *_undertrained(row)]


def _below(section: Section, row: Row) -> Iterator[str]:
    """Compare with the references of the same section; nan is below nothing."""
    metric = section.ranked_by
    if metric and not math.isnan(row.mean(metric)):
        badness = scale_of(metric).badness
        for other in section.references:
            if badness(row.mean(metric)) > badness(other.mean(metric)):
                yield f"below {other.loss}"


def _undertrained(row: Row) -> Iterator[str]:
    many = still_falling(row)
    if many:
        yield "undertrained" if many == len(row.finished) else f"undertrained ({many} of {len(row.finished)} runs)"
