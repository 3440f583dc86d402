"""Statistics are right on average where the truth is known, and where scipy knows them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dml_bench.reports.ranking import across_data_sets, standing
from dml_bench.reports.statistics import (
    ClassMeans,
    difference,
    difference_of_seeds,
    estimate,
    estimate_of_seeds,
    holm,
    p_value,
    sign_flip,
)


class World:
    """Losses that are equally good on average, on classes of unequal size with the same difficulty for all of them."""

    def __init__(self, seed, classes=50, icc=0.3, seed_effect=0.02, mean=0.65):
        self.rng = np.random.default_rng(seed)
        self.counts = self.rng.integers(10, 60, classes)
        self.mean, self.seed_effect = mean, seed_effect
        self.deviation = np.sqrt(icc * mean * (1 - mean))
        self.classes = self.rng.normal(0, self.deviation, classes)

    def loss(self, seeds, better=0.0):
        """Return the runs of a loss, which finds some classes easier than others do."""
        rng, classes = self.rng, len(self.counts)
        own = rng.normal(0, 0.03, classes)
        chances = self.mean + better + self.classes + own + rng.normal(0, self.seed_effect, (seeds, 1))
        hits = rng.binomial(self.counts, np.clip(chances + rng.normal(0, 0.02, (seeds, classes)), 0, 1))
        return ClassMeans(hits / self.counts, self.counts)


@pytest.mark.parametrize(("seeds", "classes"), [(3, 50), (5, 50), (5, 100), (10, 30)])
def test_one_in_twenty_equal_pairs_is_rejected(seeds, classes):
    rejected = 0
    for number in range(1000):
        world = World(number, classes)
        rejected += p_value(world.loss(seeds), world.loss(seeds)) < 0.05
    assert 30 <= rejected <= 70


def naive_half(runs):
    """Half of the interval that takes every query of every seed to be independent."""
    queries = runs.counts.sum() * len(runs.values)
    mean = (runs.values @ runs.weights).mean()
    return 1.96 * math.sqrt(mean * (1 - mean) / queries)


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_cover_the_truth_and_the_naive_one_does_not(seeds):
    big = np.random.default_rng(0).normal(0, 1, (10**6, 4)) @ np.diag([math.sqrt(0.3 * 0.65 * 0.35), 0.03, 0.02, 0.02])
    truth = np.clip(0.65 + big.sum(axis=1), 0, 1).mean()
    covered = naive = 0
    for number in range(1000):
        runs = World(number).loss(seeds)
        found = estimate(runs, resamples=200)
        covered += found.low <= truth <= found.high
        naive += abs(found.mean - truth) <= naive_half(runs)
    assert 930 <= covered <= 970
    assert naive < 500


def test_a_real_difference_is_found():
    found = detectable = 0
    for number in range(200):
        world = World(number)
        result = difference(world.loss(5, better=0.06), world.loss(5), resamples=100)
        found += result.p < 0.05
        detectable += result.detectable
    assert found > 160  # power of 80 percent and more
    assert 0.03 < detectable / 200 < 0.06


def test_the_same_runs_do_not_differ_from_themselves():
    runs = World(1).loss(3)
    found = difference(runs, runs)
    assert (found.value, found.p, found.p_networks) == (0, 1, 1)
    assert found.low < 0 < found.high


def test_one_seed_makes_no_claim():
    world = World(2)
    one, many = world.loss(1), world.loss(3)
    assert estimate(one).basis == "n=1, no claim"
    assert math.isnan(estimate(one).low)
    assert math.isnan(difference(one, many).p)
    assert math.isnan(p_value(one, many))
    assert estimate_of_seeds([0.5]).basis == "n=1, no claim"
    assert math.isnan(difference_of_seeds([0.5], [0.6, 0.7]).p)


def test_what_is_not_finite_makes_no_claim():
    runs = World(3).loss(3)
    for odd in (math.nan, math.inf):
        found = difference(ClassMeans(np.where(np.arange(50) == 7, odd, runs.values), runs.counts), runs)
        assert all(map(math.isnan, (found.p, found.p_networks, found.low, found.detectable)))
        assert math.isnan(sign_flip(np.array([0.1, odd])))


def test_other_queries_are_refused():
    with pytest.raises(ValueError, match="not measured on the same queries"):
        difference(World(1, 20).loss(3), World(2, 20).loss(3))


def test_class_means_are_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    labels, values = rng.integers(3, 9, 100), [rng.random(100) for _ in range(2)]
    found = ClassMeans.of(labels, values)
    plain = [[run[labels == c].mean() for c in np.unique(labels)] for run in values]
    np.testing.assert_allclose(found.values, plain)
    assert estimate(found).mean == pytest.approx(np.mean(values))


def test_seeds_alone_are_compared_as_scipy_does():
    a, b = [0.61, 0.64, 0.7], [0.55, 0.58, 0.56, 0.6]
    found, scipy = difference_of_seeds(a, b), stats.ttest_ind(a, b, equal_var=False)
    assert found.p == pytest.approx(scipy.pvalue)
    interval = scipy.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    one = estimate_of_seeds(a)
    assert (one.low, one.high) == pytest.approx(stats.t.interval(0.95, 2, np.mean(a), stats.sem(a)))


@pytest.mark.parametrize("size", [5, 10, 60])
def test_signs_are_flipped_as_scipy_does(size):
    parts = np.random.default_rng(size).normal(0.3, 1, size)
    how = {"permutation_type": "samples", "n_resamples": 20_000}
    scipy = stats.permutation_test((parts,), lambda x, axis: x.sum(axis=axis), vectorized=True, **how)
    assert sign_flip(parts) == pytest.approx(scipy.pvalue, abs=1e-9 if size < 14 else 0.02)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_a_plain_loop(p_values):
    order = np.argsort(p_values, kind="stable")
    corrected, highest = np.empty(len(p_values)), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, p_values[i] * (len(p_values) - rank)))
        corrected[i] = highest
    assert holm([*p_values, math.nan])[:-1] == pytest.approx(list(corrected))


def test_rows_are_better_tied_or_neither():
    pairs = {(0, 1): (0.2, 0.001), (0, 2): (0.01, 0.6), (1, 2): (-0.19, 0.004), (0, 3): (0.5, math.nan)}
    found = standing([0.9, 0.7, 0.89, 0.4], pairs)
    assert found.better == ((1,), (), (1,), ())
    assert found.tied == (0, 2)
    lower = standing([0.9, 0.7, 0.89, 0.4], pairs, higher=False)
    assert lower.better == ((), (0, 2), (), ())


def test_across_data_sets_agrees_with_scipy():
    scores = np.random.default_rng(0).random((8, 4)) + np.array([0.5, 0.1, 0.0, 0.0])
    found = across_data_sets(scores)
    assert found.p == pytest.approx(stats.friedmanchisquare(*scores.T).pvalue)
    assert found.ranks == pytest.approx(tuple(stats.rankdata(-scores, axis=1).mean(axis=0)))
    assert found.critical == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 8)), abs=1e-3)  # Demsar, table 5
    raw = [stats.wilcoxon(scores[:, i], scores[:, j]).pvalue for i, j in found.pairs]
    assert list(found.pairs.values()) == pytest.approx(holm(raw))
    assert found.least == pytest.approx(6 * stats.wilcoxon(np.arange(1, 9)).pvalue)
    with pytest.raises(ValueError, match="at least 2 data sets and 3 losses"):
        across_data_sets(scores[:, :2])
