"""How sure a number is, and whether two differ: seeds and test classes are both samples.

Queries of one class are not independent, and neither are the queries of one training run. So the unit is the mean of a
class in a run, ``y[s, c]`` of seed s and class c, which is taken to be

    y[s, c] = mean + class[c] + seed[s] + rest[s, c],

the same classes for all seeds. The claim is about NEW SEEDS AND NEW CLASSES of the same kind. With weights w[c] of the
classes (their shares of the queries), S seeds and C classes, the variance of the mean is V = V_c + max(0, V_s - V_r),
where V_c is that of the class means, V_s that of the seeds' means and V_r that of the rest, which both contain.
Its degrees of freedom are Satterthwaite's; V_s - V_r counts there with no less than ``FLOOR`` V_s, since with three
seeds it is known poorly. Intervals are bootstrapped over classes and seeds, which gives their shape, and brought to the
width of Student's t with V, which a bootstrap of three seeds alone would miss.

Calibration (asserted by a test; results/benchmarks/statistics.md has more settings): with 3 to 10 seeds, 20 to 100
classes and effects of both, intervals cover 93 to 97 percent and the 5 percent test rejects 3 to 7 percent of equal
pairs. It rejects less where neither seeds nor classes tell two losses apart, and with two seeds; with one there is no
claim.

Source: Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics 2, 1946; Owen, "The
pigeonhole bootstrap", Annals of Applied Statistics 1, 2007, for resampling both ways.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy import stats

FLOOR = 0.7
"""Least share of a variance between seeds that counts in the degrees of freedom; chosen by simulation."""
LEVEL = 0.95
RESAMPLES = 1000
POWER = 0.8
"""With which a detectable difference would have been found."""


@dataclass(frozen=True, eq=False)
class ClassMeans:
    """The runs of one loss by one metric: the unit of all statistics here.

    Args:
        values: ``(S, C)`` mean over the queries of a class, by seed and class.
        counts: ``(C,)`` queries of each class.
    """

    values: Float64[np.ndarray, "S C"]
    counts: Int64[np.ndarray, " C"]

    @classmethod
    def of(cls, labels: Int64[np.ndarray, " Q"], values: Sequence[Float64[np.ndarray, " Q"]]) -> ClassMeans:
        """Return the class means of runs whose queries, one after the other, have ``labels``."""
        _, position, counts = np.unique(labels, return_inverse=True, return_counts=True)
        sums = [np.bincount(position, weights=run) for run in values]
        return cls(np.stack(sums) / counts, counts.astype(np.int64))

    @property
    def weights(self) -> Float64[np.ndarray, " C"]:
        """The share of each class in the queries."""
        shares: Float64[np.ndarray, " C"] = self.counts / self.counts.sum()
        return shares


@dataclass(frozen=True)
class Estimate:
    """A mean and how sure it is.

    Attributes:
        mean: over seeds and queries.
        sd: sample standard deviation over seeds; nan for one.
        low, high: the 95 percent interval; nan where there is none.
        half: half of the interval's width, which stays as it is where the ends of a share are cut to 0 and 1.
        seeds, classes: what it rests on; ``classes`` is 0 if only the seeds are known.
    """

    mean: float
    sd: float
    low: float
    high: float
    half: float
    seeds: int
    classes: int = 0

    @property
    def basis(self) -> str:
        """What the interval is about, in words."""
        if self.seeds < 2:
            return f"n={self.seeds}, no claim"
        return "seeds and classes" if self.classes else "seeds only"


@dataclass(frozen=True)
class Difference:
    """How much better A is than B, on the same queries.

    Attributes:
        value: mean of A minus mean of B.
        low, high: its 95 percent interval; nan where there is none.
        p: of the test that new seeds and new classes see no difference; nan for a single seed.
        p_networks: of the sign-flip test over classes that these very networks do not differ on new classes; smaller,
            as it asks less: other seeds may give other networks.
        detectable: the least difference that would have been found with 80 percent power; nan for a single seed.
        seeds: of A and of B.
        classes: of the test part; 0 if only the seeds are known.
    """

    value: float
    low: float
    high: float
    p: float
    p_networks: float
    detectable: float
    seeds: tuple[int, int]
    classes: int = 0


@dataclass(frozen=True)
class _Spread:
    """The variance of a mean or of a difference, and its degrees of freedom."""

    variance: float
    freedom: float

    @property
    def error(self) -> float:
        return math.sqrt(self.variance)

    def quantile(self, share: float) -> float:
        return float(stats.t.ppf(share, self.freedom))


def estimate(runs: ClassMeans, resamples: int = RESAMPLES) -> Estimate:
    """Return mean, deviation over seeds and the 95 percent interval for new seeds and new classes."""
    weights, seeds = runs.weights, len(runs.values)
    by_seed = runs.values @ weights
    mean = float(by_seed.mean())
    sd = float(by_seed.std(ddof=1)) if seeds > 1 else math.nan
    low = high = math.nan
    if seeds > 1 and len(weights) > 1:
        spread = _spread(runs.values.mean(axis=0), weights, [runs.values])
        low, high = _interval(mean, spread, _resampled(runs.values, runs.counts, resamples))
    return Estimate(mean, sd, low, high, (high - low) / 2, seeds, len(weights))


def estimate_of_seeds(values: Sequence[float]) -> Estimate:
    """Return the estimate where only one number per seed is known: Student's t interval for new seeds."""
    n, mean = len(values), float(np.mean(values)) if values else math.nan
    if n < 2:
        return Estimate(mean, math.nan, math.nan, math.nan, math.nan, n)
    sd = float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * sd / math.sqrt(n)
    return Estimate(mean, sd, mean - half, mean + half, half, n)


def difference(a: ClassMeans, b: ClassMeans, resamples: int = RESAMPLES) -> Difference:
    """Compare two losses on the same queries; their seeds are trainings of their own, and are not paired.

    Raises:
        ValueError: if the classes do not have the same number of queries.
    """
    if not np.array_equal(a.counts, b.counts):
        raise ValueError("the two were not measured on the same queries")
    weights, seeds = a.weights, (len(a.values), len(b.values))
    by_class = a.values.mean(axis=0) - b.values.mean(axis=0)
    value = float(by_class @ weights)
    networks = sign_flip(by_class * weights)
    if min(seeds) < 2 or len(weights) < 2 or not math.isfinite(value):
        return Difference(value, math.nan, math.nan, math.nan, networks, math.nan, seeds, len(weights))
    spread = _spread(by_class, weights, [a.values, b.values])
    drawn = _resampled(a.values, a.counts, resamples, b.values)
    low, high = _interval(value, spread, drawn)
    return Difference(value, low, high, _p(value, spread), networks, _detectable(spread), seeds, len(weights))


def p_value(a: ClassMeans, b: ClassMeans) -> float:
    """Return ``difference(a, b).p`` alone, which takes no resampling; nan for a single seed."""
    if min(len(a.values), len(b.values)) < 2 or len(a.counts) < 2:
        return math.nan
    by_class = a.values.mean(axis=0) - b.values.mean(axis=0)
    return _p(float(by_class @ a.weights), _spread(by_class, a.weights, [a.values, b.values]))


def difference_of_seeds(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Compare two losses of which one number per seed is known: Welch's t test for new seeds on these classes."""
    seeds = (len(a), len(b))
    value = float(np.mean(a) - np.mean(b))
    if min(seeds) < 2:
        return Difference(value, math.nan, math.nan, math.nan, math.nan, math.nan, seeds)
    parts = [float(np.var(values, ddof=1)) / len(values) for values in (a, b)]
    freedom = sum(parts) ** 2 / max(sum(v**2 / (n - 1) for v, n in zip(parts, seeds, strict=True)), 1e-300)
    spread = _Spread(sum(parts), max(freedom, 1.0))
    half = spread.quantile((1 + LEVEL) / 2) * spread.error
    return Difference(value, value - half, value + half, _p(value, spread), math.nan, _detectable(spread), seeds)


def sign_flip(parts: Float64[np.ndarray, " C"], flips: int = 10_000, seed: int = 0) -> float:
    """Return the two-sided p-value that ``parts`` are as likely to be of either sign; exact for up to 13 of them.

    Nan if a part is not finite.

    Source: Fisher, "The Design of Experiments", 1935. The observed signs are counted among the drawn ones.
    """
    parts = np.asarray(parts, dtype=np.float64)
    if not np.isfinite(parts).all():
        return math.nan
    size = len(parts)
    seen = abs(parts.sum()) * (1 - 1e-12)
    if 2**size <= flips:
        signs = 1 - 2 * ((np.arange(2**size)[:, None] >> np.arange(size)) & 1)
        return float((np.abs(signs @ parts) >= seen).mean())
    rng, found = np.random.default_rng(seed), 1
    for start in range(0, flips, 500):
        signs = rng.integers(0, 2, (min(500, flips - start), size), dtype=np.int8) * np.int8(2) - np.int8(1)
        found += int((np.abs(signs.astype(np.float64) @ parts) >= seen).sum())
    return found / (flips + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number; nan stays nan and counts for nothing.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    corrected, highest = [math.nan] * len(p_values), 0.0
    for rank, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        corrected[i] = highest
    return corrected


def _spread(
    by_class: Float64[np.ndarray, " C"],
    weights: Float64[np.ndarray, " C"],
    groups: Sequence[Float64[np.ndarray, "S C"]],
) -> _Spread:
    """Return variance and degrees of freedom of ``by_class @ weights``, to which each group of runs adds its seeds."""
    many = len(weights)
    unequal = many / (many - 1)
    effective = float((weights**2).sum() ** 2 / (weights**4).sum())
    of_classes = unequal * float(((weights * (by_class - by_class @ weights)) ** 2).sum())
    total, freedom = of_classes, of_classes**2 / max(effective - 1, 1.0)
    for values in groups:
        seeds, by_seed = len(values), values @ weights
        of_seeds = float(by_seed.var(ddof=1)) / seeds
        rest = values - values.mean(axis=0) - by_seed[:, None] + by_seed.mean()
        of_rest = unequal * float(((weights * rest) ** 2).sum()) / ((seeds - 1) * seeds)
        total += of_seeds - of_rest
        freedom += max(of_seeds - of_rest, FLOOR * of_seeds) ** 2 / (seeds - 1)
    variance = max(total, of_classes)
    fewest = min(*(len(values) - 1 for values in groups), max(effective - 1, 1.0), many - 1)
    return _Spread(variance, float(max(variance**2 / freedom, fewest) if freedom > 0 else fewest))


def _resampled(
    values: Float64[np.ndarray, "S C"],
    counts: Int64[np.ndarray, " C"],
    resamples: int,
    minus: Float64[np.ndarray, "T C"] | None = None,
) -> Float64[np.ndarray, " R"]:
    """Return the mean, or the difference of two, for classes and seeds drawn anew with replacement."""
    rng, many = np.random.default_rng(0), len(counts)
    found = []
    for start in range(0, resamples, 100):
        size = min(100, resamples - start)
        drawn = rng.multinomial(many, np.full(many, 1 / many), size) * counts
        drawn = drawn / drawn.sum(axis=1, keepdims=True)
        total = np.zeros(size)
        for sign, runs in ((1, values), (-1, minus)):
            if runs is not None:
                times = rng.multinomial(len(runs), np.full(len(runs), 1 / len(runs)), size) / len(runs)
                total += sign * np.einsum("rs,rs->r", times, drawn @ runs.T)
        found.append(total)
    return np.concatenate(found)


def _interval(value: float, spread: _Spread, drawn: Float64[np.ndarray, " R"]) -> tuple[float, float]:
    """Return the interval of the resamples' shape, as wide as Student's t with the variance of ``spread``."""
    low, high = np.quantile(drawn - drawn.mean(), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if spread.variance == 0 or low == high:
        return value, value
    scale = 2 * spread.error * spread.quantile((1 + LEVEL) / 2) / float(high - low)
    return value + float(low) * scale, value + float(high) * scale


def _p(value: float, spread: _Spread) -> float:
    if spread.variance == 0:
        return 1.0 if value == 0 else 0.0
    return float(2 * stats.t.sf(abs(value) / spread.error, spread.freedom))


def _detectable(spread: _Spread) -> float:
    return (spread.quantile((1 + LEVEL) / 2) + spread.quantile(POWER)) * spread.error
