"""Verification against scikit-learn's curves and plain loops over thresholds."""

import gzip
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from dml_bench.errors import DataError, OptionError
from dml_bench.evaluation.metrics import parse_metric
from dml_bench.evaluation.pairs import PairScores
from dml_bench.evaluation.verification import best_threshold, equal_error_rate, fold_accuracies, tar_at

PAIRS = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=40)
BOTH = PAIRS.filter(lambda pairs: len({same for _, same in pairs}) == 2)


def scores(pairs, folds=None):
    values, same = zip(*pairs, strict=True)
    return PairScores.of(np.array(values, dtype=float), np.array(same), folds)


def curve(pairs):
    values, same = zip(*pairs, strict=True)
    far, tar, _ = roc_curve(same, values, drop_intermediate=False)
    return far, tar


@given(BOTH)
def test_the_area_is_that_of_scikit_learn(pairs):
    values, same = zip(*pairs, strict=True)
    assert parse_metric("roc_auc").score(scores(pairs)) == pytest.approx(roc_auc_score(same, values))
    for found, expected in zip(scores(pairs).rates(), curve(pairs), strict=True):
        np.testing.assert_allclose(found, expected)


@given(BOTH, st.sampled_from([1e-3, 0.1, 0.2, 0.29, 0.5, 1.0]))
def test_tar_is_the_best_that_the_far_allows(pairs, far):
    false, true = curve(pairs)
    if far * sum(not same for _, same in pairs) < 1 - 1e-9:
        with pytest.raises(DataError, match="pairs of different classes"):
            tar_at(scores(pairs), far)
    else:
        assert tar_at(scores(pairs), far) == pytest.approx(true[false <= far].max())


def test_tar_accepts_as_many_as_far_says():
    different = [(value, False) for value in range(100)]  # 0.29 * 100 is less than 29 as a float
    assert tar_at(scores([*different, (70.5, True), (69.5, True)]), 0.29) == 0.5
    assert tar_at(scores([(1, False), (1, True), (2, True), (0, False)]), 0.5) == 1.0
    assert tar_at(scores([(1, False), (1, False), (1, True), (2, True)]), 0.5) == 0.5  # ties go together


@given(BOTH)
def test_eer_lies_on_the_curve_where_both_errors_are_equal(pairs):
    false, true = curve(pairs)
    grid = np.linspace(0, 1, 20001)
    place = np.arange(len(false))
    steps = grid * place[-1]
    gap = np.interp(steps, place, false) - 1 + np.interp(steps, place, true)
    nearest = np.argmin(np.abs(gap))
    assert equal_error_rate(scores(pairs)) == pytest.approx(np.interp(steps[nearest], place, false), abs=4e-3)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(2, True), (1, False)], 0.0),
        ([(1, True), (2, False)], 1.0),
        ([(1, True), (1, False)], 0.5),
        ([(3, True), (2, False), (1, True), (0, False)], 0.5),
        ([(5, True), (4, True), (3, False), (2, True), (1, False), (0, False)], 1 / 3),
    ],
)
def test_eer_worked_out_by_hand(pairs, expected):
    assert equal_error_rate(scores(pairs)) == pytest.approx(expected)


def best_by_loop(pairs):
    values = sorted({value for value, _ in pairs})
    cuts = [-np.inf, *((a + b) / 2 for a, b in pairwise(values)), np.inf]
    right = [sum((value >= cut) == same for value, same in pairs) for cut in cuts]
    return max(cut for cut, number in zip(cuts, right, strict=True) if number == max(right))


@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans(), st.integers(0, 2)), min_size=2, max_size=40))
def test_accuracy_over_folds_equals_a_loop(rows):
    folds = np.array([fold for *_, fold in rows])
    if len(set(folds)) < 2:
        return
    expected = []
    for fold in sorted(set(folds)):
        cut = best_by_loop([(value, same) for value, same, where in rows if where != fold])
        held = [(value, same) for value, same, where in rows if where == fold]
        expected.append(sum((value >= cut) == same for value, same in held) / len(held))
    found = fold_accuracies(scores([row[:2] for row in rows], folds))
    assert found.tolist() == pytest.approx(expected)
    assert parse_metric("pair_accuracy").score(scores([row[:2] for row in rows], folds)) == pytest.approx(
        np.mean(expected)
    )


def test_thresholds_lie_midway_and_the_highest_of_equally_good_ones_is_taken():
    assert best_threshold(scores([(0, False), (3, True)])) == 1.5
    assert best_threshold(scores([(0, False), (1, True), (2, False), (3, True)])) == 2.5
    assert best_threshold(scores([(0, True)])) == -np.inf
    assert best_threshold(scores([(0, False)])) == np.inf
    up = np.nextafter(1.0, 2)
    assert best_threshold(scores([(1.0, False), (up, True)])) == up


def test_the_ten_folds_of_labeled_faces_in_the_wild(data_root):
    path = data_root / "annotations" / "lfw" / "pairs.txt.gz"
    if not path.exists():
        pytest.skip("the folder of real data has no annotations/lfw/pairs.txt.gz")
    rows = [line.split("\t") for line in gzip.decompress(path.read_bytes()).decode().splitlines()[1:]]
    same, folds = np.array([len(row) == 3 for row in rows]), np.arange(6000) // 600
    assert [int(same[folds == fold].sum()) for fold in range(10)] == [300] * 10
    values = np.random.default_rng(0).normal(size=6000) + 2 * same
    expected = []
    for fold in range(10):
        rest, held = folds != fold, folds == fold
        cuts = np.sort(values[rest])
        right = [np.sum((values[rest] >= cut) == same[rest]) for cut in cuts]
        best = np.flatnonzero(np.array(right) == max(right))[-1]
        expected.append(np.mean((values[held] >= (cuts[best - 1] + cuts[best]) / 2) == same[held]))
    found = parse_metric("pair_accuracy").score(PairScores.of(values, same, folds))
    assert found == pytest.approx(np.mean(expected))
    assert 0.82 < found < 0.86  # 1 standard deviation on either side of the best threshold: 0.841


def test_what_does_not_exist_is_an_error():
    with pytest.raises(DataError, match="at least two folds"):
        fold_accuracies(scores([(0, True), (1, False)]))
    with pytest.raises(DataError, match="at least two folds"):
        fold_accuracies(scores([(0, True), (1, False)], np.array([5, 5])))
    for name in ("roc_auc", "eer", "tar@0.5"):
        with pytest.raises(DataError, match="nothing to verify"):
            parse_metric(name).score(scores([(0, False), (1, False)]))
        with pytest.raises(DataError, match="told apart"):
            parse_metric(name).score(scores([(0, True), (1, True)]))


@pytest.mark.parametrize("name", ["tar@1e-3", "tar@0.001", "tar@1e-6", "tar@0.01", "tar@0.1", "tar@1", "tar@2.5e-4"])
def test_tar_bears_the_name_it_was_asked_by(name):
    assert parse_metric(name).name == name


@pytest.mark.parametrize("name", ["tar@0", "tar@1.5"])
def test_a_far_is_a_share(name):
    with pytest.raises(OptionError, match=name):
        parse_metric(name)
