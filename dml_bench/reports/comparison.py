"""Two losses side by side, with one plain sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dml_bench.errors import ResultsError
from dml_bench.evaluation.scores import SPREAD
from dml_bench.reports.measured import measured, of_queries
from dml_bench.reports.ranking import ALPHA
from dml_bench.reports.scales import scale_of
from dml_bench.reports.statistics import Difference, difference, difference_of_seeds
from dml_bench.results.record import RunRecord

ROUNDING = 1e-9
"""What is smaller is none of a share."""


@dataclass(frozen=True)
class Compared:
    """What a comparison of A and B by a metric found.

    Attributes:
        restarts: standard deviations over k-means restarts, one per run that knows it.
        same: whether both sides are the same runs.
    """

    names: tuple[str, str]
    metric: str
    means: tuple[float, float]
    difference: Difference
    restarts: tuple[float, ...] = ()
    same: bool = False

    def lines(self) -> list[str]:
        """Return the comparison as text, the plain sentence last."""
        found, (a, b) = self.difference, self.names
        scope = f"new seeds and new classes, {found.classes} classes" if found.classes else "new seeds on these classes"
        lines = [
            f"A: {a}: {self.metric} {self._shown(self.means[0])}, {found.seeds[0]} seeds",
            f"B: {b}: {self.metric} {self._shown(self.means[1])}, {found.seeds[1]} seeds",
            f"A - B: {self._shown(found.value)}"
            + (
                ""
                if math.isnan(found.low)
                else f", 95 % interval {self._shown(found.low)} to {self._shown(found.high)}"
            ),
        ]
        ranks = of_queries(self.metric)
        if ranks and not math.isnan(found.p):
            lines.append(f"p = {found.p:.3g} ({scope})")
        if not math.isnan(found.p_networks):
            lines.append(f"p = {found.p_networks:.3g} (these very networks on new classes, sign flips)")
        if ranks and not math.isnan(found.detectable):
            lines.append(f"Detectable with 80 % power: {self._shown(found.detectable)}")
        if ranks and not found.classes:
            lines.append(
                f"Not all of these runs have values per query of {self.metric}: the numbers of the seeds are compared."
            )
        return [*lines, self.sentence()]

    def sentence(self) -> str:
        """Say in one sentence what follows."""
        found = self.difference
        if why := self._no_claim():
            return why
        if abs(found.value) < ROUNDING and found.detectable < ROUNDING:
            return "No difference found: the numbers are the same."
        if found.p >= ALPHA:
            least = self._shown(found.detectable)
            return f"No difference found; one below {least} would go unnoticed more often than one time in five."
        higher = (found.value > 0) == (scale_of(self.metric).better != "lower")
        return f"{self.names[0 if higher else 1]} is better by {self._shown(abs(found.value))} in {self.metric}."

    def _no_claim(self) -> str:
        """Say why nothing is claimed; empty where something is."""
        found = self.difference
        if self.same:
            return "No claim: A and B are the same runs."
        if not math.isfinite(found.value):
            return f"No claim: {self.metric} is not a finite number in all of these runs."
        if not of_queries(self.metric):
            known = [spread for spread in self.restarts if math.isfinite(spread)]
            low, high = (self._shown(end(known)) if known else "" for end in (min, max))
            span = low if low == high else f"{low} to {high}"
            moved = f", which k-means alone moves by {span} (standard deviation over restarts)," if known else ""
            return f"A - B is {self._shown(found.value)} in {self.metric}{moved or ','} and no claim: it ranks nothing."
        if min(found.seeds) < 2:
            return f"n={min(found.seeds)}, no claim: one training says nothing of others."
        if found.classes == 1:
            return "No claim: a single test class says nothing of others."
        return ""

    def _shown(self, value: float) -> str:
        scale = scale_of(self.metric)
        [text] = scale.texts([value], 2 if scale.percent else 4)
        return text


def compared(a: Sequence[RunRecord], b: Sequence[RunRecord], metric: str) -> Compared:
    """Compare the runs of two recipes, which differ in their seed alone.

    Raises:
        ResultsError: if they are of different protocols or queries, or a side has no run with the metric.
    """
    sides = [[run for run in runs if run.status == "ok"] for runs in (a, b)]
    for name, runs in zip("AB", sides, strict=True):
        if not runs or any(metric not in run.metrics for run in runs):
            known = sorted(set.intersection(*(set(run.metrics) for run in runs))) if runs else []
            raise ResultsError(f"{name}: no finished runs with {metric}; they have {', '.join(known) or 'none'}")
    protocols = [{(run.dataset, run.protocol_id) for run in runs} for runs in sides]
    if protocols[0] != protocols[1] or len(protocols[0]) != 1:
        said = " and ".join(", ".join(f"{d} {p}" for d, p in sorted(side)) for side in protocols)
        raise ResultsError(f"A and B are of different protocols, {said}; their numbers must not be compared")
    found = [measured(runs, metric) for runs in sides]
    values = [[run.metrics[metric] for run in runs] for runs in sides]
    if found[0] and found[1]:
        if found[0].queries != found[1].queries:
            raise ResultsError("A and B were not measured on the same queries")
        result = difference(found[0].means, found[1].means)
    else:
        result = difference_of_seeds(*values)
    means = (sum(values[0]) / len(values[0]), sum(values[1]) / len(values[1]))
    restarts = tuple(run.metrics[metric + SPREAD] for runs in sides for run in runs if metric + SPREAD in run.metrics)
    # By text, because nan differs from itself.
    same = repr(sides[0]) == repr(sides[1])
    return Compared((_name(sides[0][0]), _name(sides[1][0])), metric, means, result, restarts, same)


def _name(run: RunRecord) -> str:
    return f"{run.loss} [{run.recipe_id}]"
