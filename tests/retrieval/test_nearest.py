import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from dml_bench.errors import DataError
from dml_bench.retrieval import nearest as module
from dml_bench.retrieval.nearest import nearest

RNG = np.random.default_rng(0)
X = RNG.standard_normal((50, 6)).astype(np.float32)
Q = RNG.standard_normal((4, 6)).astype(np.float32)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("block", [2**22, 13])
def test_neighbors_are_those_of_scikit_learn(distance, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    rows, values = nearest(Q, X, 7, distance)
    known = NearestNeighbors(n_neighbors=7, metric=distance, algorithm="brute").fit(X.astype(float))
    distances, expected = known.kneighbors(Q.astype(float))
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(values, 1 - distances if distance == "cosine" else distances, atol=1e-9)


def test_a_query_in_the_gallery_does_not_find_itself():
    own = np.array([3, -1])
    rows, _ = nearest(X[[3, 4]], X, 49, own=own)
    assert 3 not in rows[0]
    assert rows[1, 0] == 4


def test_what_comes_later_at_a_tie():
    gallery = np.array([[1.0, 0], [2, 0], [3, 0], [0, 1]])
    assert nearest(gallery[:1], gallery, 4)[0].tolist() == [[0, 1, 2, 3]]
    later = np.array([[True, False, True, False]])
    assert nearest(gallery[:1], gallery, 4, later=later)[0].tolist() == [[1, 0, 2, 3]]


@pytest.mark.parametrize(("value", "said"), [(0.0, "has length 0"), (np.nan, "is not finite")])
def test_what_has_no_direction_is_refused(value, said):
    with pytest.raises(DataError, match=f"gallery: an embedding {said}"):
        nearest(Q, np.full((3, 6), value), 1)
    if value == 0:
        assert nearest(Q, np.zeros((3, 6)), 1, "euclidean")[1] == pytest.approx(np.linalg.norm(Q, axis=1)[:, None])
