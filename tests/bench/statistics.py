"""Time, calibration and power of the statistics, as ``results/benchmarks/statistics.md``.

Run ``python tests/bench/statistics.py > results/benchmarks/statistics.md``.
"""

from __future__ import annotations

import math
import time

import numpy as np

from dml_bench.reports.statistics import ClassMeans, difference, estimate, p_value

PAIRS = 2000
MEAN = 0.65


def world(number: int, classes: int, icc: float, seed_effect: float):
    """Return what makes the runs of a loss on classes whose difficulty is the same for every loss."""
    rng = np.random.default_rng(number)
    counts = rng.integers(10, 60, classes)
    hard = rng.normal(0, math.sqrt(icc * MEAN * (1 - MEAN)), classes)

    def loss(seeds: int, better: float = 0.0) -> ClassMeans:
        own = rng.normal(0, 0.03, classes) + rng.normal(0, 0.02, (seeds, classes))
        chances = MEAN + better + hard + own + rng.normal(0, seed_effect, (seeds, 1))
        return ClassMeans(rng.binomial(counts, np.clip(chances, 0, 1)) / counts, counts)

    return loss


def truth(icc: float, seed_effect: float) -> float:
    """Return the mean over all classes and seeds there could be; chances above 1 are 1."""
    spread = math.sqrt(icc * MEAN * (1 - MEAN) + 0.03**2 + 0.02**2 + seed_effect**2)
    return float(np.clip(np.random.default_rng(0).normal(MEAN, spread, 10**6), 0, 1).mean())


def line(seeds: int, classes: int, icc: float, seed_effect: float) -> str:
    """Return one row of the table."""
    rejected = found = covered = naive = 0
    detectable, expected = [], truth(icc, seed_effect)
    for number in range(PAIRS):
        loss = world(number, classes, icc, seed_effect)
        a, b = loss(seeds), loss(seeds)
        rejected += p_value(a, b) < 0.05
        found += p_value(loss(seeds, 0.03), b) < 0.05
        if number < PAIRS // 2:
            known = estimate(a, resamples=200)
            covered += known.low <= expected <= known.high
            half = 1.96 * math.sqrt(known.mean * (1 - known.mean) / (a.counts.sum() * seeds))
            naive += abs(known.mean - expected) <= half
            detectable.append(difference(a, b, resamples=2).detectable if number < 100 else math.nan)
    shares = (rejected / PAIRS, covered / (PAIRS // 2), naive / (PAIRS // 2), found / PAIRS)
    settings = f"| {seeds} | {classes} | {icc} | {100 * seed_effect:g} |"
    return settings + "".join(f" {100 * share:.1f} |" for share in shares) + f" {100 * np.nanmean(detectable):.1f} |"


def seconds() -> tuple[float, float]:
    """Return what an interval and a comparison take for 10 runs of 60,502 queries in 11,316 classes."""
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.arange(11316), rng.integers(0, 11316, 60502 - 11316)])
    start = time.perf_counter()
    runs = ClassMeans.of(labels, [(rng.random(60502) < 0.6).astype(float) for _ in range(10)])
    estimate(runs)
    one = time.perf_counter() - start
    start = time.perf_counter()
    difference(runs, ClassMeans(runs.values[::-1].copy(), runs.counts))
    return one, time.perf_counter() - start


def main() -> None:
    """Print the page."""
    one, two = seconds()
    print("# Statistics\n")
    print(
        "1,000 resamples of 10 runs x 60,502 queries in 11,316 classes: "
        f"interval {one:.2f} s, comparison {two:.2f} s.\n"
    )
    print(
        "Made-up runs (`python tests/bench/statistics.py`): two losses that are equally good on average, on classes of"
    )
    print(f"10 to 59 queries; {PAIRS:,} pairs a row. In percent: how often the 5 percent test rejects, how often the")
    print(
        "interval covers the truth, how often the one does that takes all queries of all seeds to be independent, how"
    )
    print(
        "often a loss that is 3 points better is found to be, and the mean of the difference that is detectable with 80"
    )
    print("percent power, in points. ICC: share of the classes in the variance of a query.\n")
    print("| seeds | classes | ICC | sd of seeds | rejected | covered | naive covers | power at 3 | detectable |")
    print("|" + " ---: |" * 9)
    for seeds, classes in ((2, 50), (3, 50), (3, 100), (5, 20), (5, 50), (5, 100), (10, 100)):
        for icc, seed_effect in ((0.05, 0.01), (0.3, 0.01), (0.3, 0.03)):
            print(line(seeds, classes, icc, seed_effect), flush=True)


if __name__ == "__main__":
    main()
