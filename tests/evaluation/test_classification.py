"""The nearest center against scikit-learn, and against a plain loop where queries leave their class's mean."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestCentroid

from dml_bench.errors import DataError
from dml_bench.evaluation.centers import nearest_centers
from dml_bench.evaluation.classification import per_class
from dml_bench.evaluation.metrics import parse_metric
from dml_bench.search.points import Points


def unit_rows(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def by_hand(x, labels, queries, gallery):
    """Classify each query with a loop over classes; None where its class has no center."""
    found = []
    for i in queries:
        distances = {}
        for c in sorted({labels[j] for j in gallery}):
            rows = [x[j] for j in gallery if labels[j] == c and j != i]
            if rows:
                distances[c] = np.linalg.norm(x[i] - np.mean(rows, axis=0))
        own = distances.pop(labels[i], None)
        if own is None:
            found.append(None)
        else:
            found.append(all(own < other - 1e-9 for other in distances.values()))
    return found


@st.composite
def cases(draw):
    n = draw(st.integers(1, 9))
    rows = st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True)
    vectors = draw(st.lists(st.tuples(*[st.integers(-2, 2)] * 2).filter(any), min_size=n, max_size=n))
    labels = draw(st.lists(st.sampled_from([-3, 0, 1, 10**9]), min_size=n, max_size=n))
    return np.array(vectors, float), np.array(labels), draw(rows), draw(st.one_of(st.just(list(range(n))), rows))


@given(cases(), st.booleans(), st.sampled_from([1, 100, 2**30]))
@settings(deadline=None)
def test_a_query_is_left_out_of_its_own_center(case, unit, memory):
    x, labels, queries, gallery = case
    own = np.array([gallery.index(i) if i in gallery else -1 for i in queries])
    q, g = np.array(queries), np.array(gallery)
    arguments = Points(x, q, unit), labels[q], Points(x, g, unit), labels[g], own
    expected = by_hand(unit_rows(x) if unit else x, labels, queries, gallery)
    kept = [i for i, right in enumerate(expected) if right is not None]
    if not kept:
        with pytest.raises(DataError, match="no class of the"):
            nearest_centers(*arguments, memory=memory)
        return
    found = nearest_centers(*arguments, memory=memory)
    assert found.queries.tolist() == kept
    assert found.labels.tolist() == labels[q][kept].tolist()
    assert (found.predicted == found.labels).tolist() == [expected[i] for i in kept]
    assert set(found.predicted) <= set(labels[g])


@pytest.mark.parametrize("unit", [True, False])
def test_where_nothing_is_left_out_it_is_the_nearest_centroid_of_scikit_learn(unit):
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(12, 6))
    labels, asked = rng.integers(0, 12, 300), rng.integers(0, 12, 200)
    gallery, queries = middles[labels] + rng.normal(size=(300, 6)), middles[asked] + rng.normal(size=(200, 6))
    found = nearest_centers(
        Points(queries, unit=unit), asked, Points(gallery, unit=unit), labels, np.full(200, -1), memory=10_000
    )
    if unit:
        gallery, queries = unit_rows(gallery), unit_rows(queries)
    assert found.predicted.tolist() == NearestCentroid().fit(gallery, labels).predict(queries).tolist()


def test_a_far_offset_does_not_change_the_answer():
    rng = np.random.default_rng(0)
    x, labels, own = rng.normal(size=(60, 3)), np.arange(60) % 5, np.arange(60)
    near, far = (
        nearest_centers(Points(y, unit=False), labels, Points(y, unit=False), labels, own) for y in (x, x + 1e6)
    )
    assert near.predicted.tolist() == far.predicted.tolist()


def test_at_equal_distance_the_other_class_comes_first():
    x = np.array([[0.1], [0.3], [0.3], [0.1]])
    labels = np.array([0, 0, 1, 1])
    found = nearest_centers(Points(x, unit=False), labels, Points(x, unit=False), labels, np.full(4, -1))
    assert not (found.labels == found.predicted).any()


@pytest.mark.parametrize("copies", [1, 3])
def test_one_class_is_always_right(copies):
    labels = np.zeros(copies + 1, dtype=np.int64)
    points = Points(np.ones((copies + 1, 2)))
    found = nearest_centers(points, labels, points, labels, np.arange(copies + 1))
    assert parse_metric("center_accuracy").score(found.labels, found.predicted) == 1.0


def test_averages_over_queries_and_over_classes():
    labels, predicted = np.array([4, 4, 4, 7]), np.array([4, 4, 7, 4])
    classes, counts, shares = per_class(labels, predicted)
    assert (classes.tolist(), counts.tolist()) == ([4, 7], [3, 1])
    assert shares.tolist() == pytest.approx([2 / 3, 0])
    assert parse_metric("center_accuracy").score(labels, predicted) == 0.5
    assert parse_metric("center_accuracy_macro").score(labels, predicted) == pytest.approx(1 / 3)
