"""What became of recorded numbers when they were measured again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from dml_bench.reports.scales import is_spread
from dml_bench.reports.summary import long_table
from dml_bench.results.environment import environment
from dml_bench.results.record import RunRecord

ROUNDING = 1e-9
"""Differences up to this are rounding: one query of a million that is found or not counts a thousand times as much."""

Pairs = Sequence[tuple[RunRecord, RunRecord]]
"""A record, and the same run measured again."""


@dataclass(frozen=True)
class Change:
    """What became of one metric.

    Attributes:
        runs: how many runs have it both recorded and measured again.
        differing: how many of them differ by more than rounding.
        run_id: the run with the largest difference, whose two values are ``recorded`` and ``rescored``.
    """

    metric: str
    runs: int
    differing: int
    run_id: str
    recorded: float
    rescored: float

    @property
    def difference(self) -> float:
        """The largest difference, rescored minus recorded."""
        return self.rescored - self.recorded


def changes(pairs: Pairs) -> list[Change]:
    """Compare every metric that was recorded and measured again; spreads over restarts are left out."""
    names = dict.fromkeys(name for _, after in pairs for name in after.metrics if not is_spread(name))
    return [change for name in names if (change := _change(name, pairs))]


def changes_text(pairs: Pairs) -> Iterator[str]:
    """Yield lines that show recorded values beside rescored ones, and say what may have made them differ."""
    found = changes(pairs)
    if not found:
        yield "No record has any of these metrics to compare with."
        return
    width = max(len(change.metric) for change in found)
    for c in found:
        where = f"{c.recorded:.6f} recorded, {c.rescored:.6f} rescored in {c.run_id}" if c.differing else "as recorded"
        amount = f"largest difference {abs(c.difference):.2g}"
        yield f"{c.metric:<{width}}  {c.differing} of {c.runs} runs differ, {amount}: {where}"
    if any(change.differing for change in found):
        made = sorted({_version(before.environment) for before, after in pairs if after.metrics})
        yield f"Recorded by dml_bench {', '.join(made)}; rescored by {_version(environment())}."


def changes_table(pairs: Pairs) -> pd.DataFrame:
    """List one row per run and metric, with what was ``recorded`` (empty where nothing was) beside ``value``.

    Raises:
        ResultsError: when two different records claim to be the same run.
    """
    recorded = {(after.recipe_id, after.protocol_id, after.seed): before.metrics for before, after in pairs}
    table = long_table([after for _, after in pairs])
    keys = zip(table["recipe_id"], table["protocol_id"], table["seed"], table["metric"], strict=True)
    values = [recorded[recipe, protocol, seed].get(metric) for recipe, protocol, seed, metric in keys]
    table.insert(list(table.columns).index("value"), "recorded", pd.Series(values, dtype=float))
    return table


def _change(name: str, pairs: Pairs) -> Change | None:
    both = [
        (abs(after.metrics[name] - before.metrics[name]), before, after)
        for before, after in pairs
        if name in before.metrics and name in after.metrics
    ]
    if not both:
        return None
    _, before, after = max(both, key=lambda item: item[0])
    differing = sum(difference > ROUNDING for difference, *_ in both)
    return Change(name, len(both), differing, after.run_id, before.metrics[name], after.metrics[name])


def _version(made: object) -> str:
    """Name a version of this package by number and, in a checkout, commit."""
    facts = made if isinstance(made, dict) else {}
    commit = (facts.get("git") or {}).get("commit", "")
    return f"{facts.get('dml_bench', 'of unknown version')}{f' ({commit[:9]})' if commit else ''}"
