"""What a table says beside a row's numbers: that training was no use, or that it was not done."""

from __future__ import annotations

import math

from dml_bench.reports.audit import FALL, last_fall
from dml_bench.reports.scales import scale_of
from dml_bench.reports.summary import Row, Section

MEANINGS = {
    "below raw": "no better than the inputs themselves, by the mean of the first metric",
    "undertrained": f"the training loss still fell by more than {100 * FALL:.0f} percent in the last tenth of epochs",
}


def marks(section: Section, row: Row) -> list[str]:
    """Return what is to be said of a row, of ``MEANINGS``; ``undertrained`` with how many runs, if not all."""
    if row.is_reference or not row.finished:
        return []
    return [*_below_raw(section, row), *_undertrained(row)]


def _below_raw(section: Section, row: Row) -> list[str]:
    """Compare with the raw pixels, or raw features, of the same section by the metric that orders its rows."""
    raw = next((other for other in section.rows if other.loss in ("raw_pixels", "raw_features")), None)
    ranked = [name for name in section.metrics if scale_of(name).better]
    if raw is None or not ranked:
        return []
    own, theirs = row.mean(ranked[0]), raw.mean(ranked[0])
    if math.isnan(own) or math.isnan(theirs):
        return []
    return ["below raw"] if scale_of(ranked[0]).best([own, theirs]) == theirs else []


def _undertrained(row: Row) -> list[str]:
    falls = [fall for run in row.finished if (fall := last_fall(run)) is not None]
    many = sum(fall > FALL for fall in falls)
    if not many:
        return []
    return ["undertrained" if many == len(row.finished) else f"undertrained ({many} of {len(row.finished)})"]
