"""Run a row of a leaderboard again, and say whether the numbers are the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from dml_bench.errors import ResultsError
from dml_bench.reports.differences import HARDWARE
from dml_bench.reports.measured import per_query
from dml_bench.reports.scales import is_spread, scale_of
from dml_bench.reports.standings import Standings
from dml_bench.reports.statistics import LEVEL
from dml_bench.reports.summary import sections
from dml_bench.results.record import RunRecord


@dataclass(frozen=True)
class Compared:
    """One metric of one run, then and now.

    Attributes:
        low, high: where another training is expected: the row's interval, and that of one more seed; nan for a row of
            one run.
    """

    metric: str
    then: float
    now: float
    low: float
    high: float

    @property
    def same(self) -> bool:
        """Whether the values are equal to the last bit."""
        return self.then == self.now

    @property
    def within(self) -> bool:
        """Whether the new value is where it is expected."""
        return self.same or self.low <= self.now <= self.high


@dataclass(frozen=True)
class Reproduction:
    """What became of one run.

    Attributes:
        record, again: the published run and the new one.
        metrics: one by one.
        queries: whether every single query had the same result.
        elsewhere: in which facts of hardware and versions the two differ, in words.
    """

    record: RunRecord
    again: RunRecord
    metrics: tuple[Compared, ...]
    queries: bool
    elsewhere: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether all numbers are equal to the last bit."""
        return self.queries and all(one.same for one in self.metrics)

    @property
    def matches(self) -> bool:
        """Whether all numbers are the same, or where another training is expected."""
        return self.identical or all(one.within for one in self.metrics)

    def lines(self) -> Iterator[str]:
        """Say it in words: the verdict first, then what differs."""
        yield f"{self.record.run_id}: {self._verdict()}"
        if self.identical:
            return
        for one in self.metrics:
            if not one.same:
                yield f"  {_sentence(one)}"
        here = "; ".join(self.elsewhere) or "nothing that the record tells: hardware and versions have the same names"
        yield f"  what is different here: {here}"

    def _verdict(self) -> str:
        if self.identical:
            return "match, bit for bit"
        outside = [one.metric for one in self.metrics if not one.within]
        if outside:
            return f"DIFFERS: {', '.join(outside)} outside of what another training gives"
        return "match, within the interval, not bit for bit"


def compare(row: Sequence[RunRecord], beside: Sequence[RunRecord], record: RunRecord, again: RunRecord) -> Reproduction:
    """Compare a published run of a row with the same run done again.

    Args:
        row: all published runs of the row.
        beside: all runs of the leaderboard, among them these.
        record: one of them.
        again: the new run.

    Raises:
        ResultsError: if the new run failed, or was made from other data.
    """
    if again.status != "ok":
        raise ResultsError(f"{again.run_id}: failed: {again.reason}")
    if again.protocol_id != record.protocol_id:
        raise ResultsError(
            f"{again.run_id}: the data here are not those of the record: "
            f"digest {again.data.get('digest')}, and {record.data.get('digest')} in the record"
        )
    [section] = [s for s in sections([*beside]) if (s.dataset, s.protocol_id) == (record.dataset, record.protocol_id)]
    place = [r.runs[0].recipe_id for r in section.rows].index(record.recipe_id)
    found = []
    for name, then in record.metrics.items():
        if not is_spread(name):
            known = Standings(section, name).estimates[place]
            low, high = _one_more([run.metrics[name] for run in row if name in run.metrics])
            low, high = float(np.fmin(low, known.low)), float(np.fmax(high, known.high))
            found.append(Compared(name, then, again.metrics[name], low, high))
    return Reproduction(record, again, tuple(found), _same_queries(record, again), tuple(_elsewhere(record, again)))


def _one_more(values: Sequence[float]) -> tuple[float, float]:
    """Return the interval of Student's t for the value of one more seed; nan for fewer than two."""
    many = len(values)
    if many < 2:
        return float("nan"), float("nan")
    half = float(stats.t.ppf((1 + LEVEL) / 2, many - 1) * np.std(values, ddof=1) * np.sqrt(1 + 1 / many))
    mean = float(np.mean(values))
    return mean - half, mean + half


def _same_queries(record: RunRecord, again: RunRecord) -> bool:
    then, now = per_query(record), per_query(again)
    return then.keys() == now.keys() and all(np.array_equal(then[name], now[name]) for name in then)


def _elsewhere(record: RunRecord, again: RunRecord) -> Iterator[str]:
    then, now = _facts(record), _facts(again)
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            yield f"{name} {then.get(name, 'unknown')}, here {now.get(name, 'unknown')}"


def _facts(run: RunRecord) -> Mapping[str, Any]:
    told = {name: run.environment.get(name) for name in (*HARDWARE, "python", "dml_bench")}
    return {**told, **run.environment.get("packages", {})}


def _sentence(one: Compared) -> str:
    scale = scale_of(one.metric)
    unit = " points" if scale.percent else ""
    then, now, low, high = (scale.shown(value) for value in (one.then, one.now, one.low, one.high))
    expected = "no interval is known, as the row has one run" if np.isnan(low) else f"expected {low:.2f} to {high:.2f}"
    return f"{one.metric}: {then:.4f} in the record, {now:.4f} here, {now - then:+.4f}{unit}; {expected}"
