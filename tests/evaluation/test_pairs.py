"""Pairs given one by one, and in folds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dml_bench.errors import DataError
from dml_bench.evaluation.pairs import PairScores


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans(), st.integers(0, 3)), min_size=1, max_size=30))
def test_folds_are_what_is_left_without_the_others(rows):
    values, same, folds = (np.array(column) for column in zip(*rows, strict=True))
    scores = PairScores.of(values.astype(float), same, folds)
    for fold, number in zip(scores.folds, np.unique(folds), strict=True):
        rest = folds != number
        left = scores.without(fold)
        assert np.repeat(left.similarities, left.same).tolist() == sorted(values[rest & same])
        assert np.repeat(left.similarities, left.different).tolist() == sorted(values[rest & ~same])
        assert fold.same.sum() + fold.different.sum() == (~rest).sum()


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match="pair 1 is not finite"):
        PairScores.of(np.array([0.0, np.nan]), np.array([True, False]))
