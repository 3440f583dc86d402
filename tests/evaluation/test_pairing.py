"""Pairs counted in tiles against a plain loop over all of them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from dml_bench.errors import DataError
from dml_bench.evaluation import pairing
from dml_bench.evaluation.pairing import all_pairs, listed_pairs
from dml_bench.evaluation.verification import area_under_curve
from dml_bench.search.points import Points


def by_hand(x, labels, queries, gallery, unit):
    """Return (similarity, same) of each pair, unordered pairs once."""
    x = x / np.linalg.norm(x, axis=1, keepdims=True) if unit else x
    met, found = set(), []
    for i in queries:
        for j in gallery:
            if i != j and frozenset((i, j)) not in met:
                met.add(frozenset((i, j)))
                found.append((x[i] @ x[j] if unit else -np.linalg.norm(x[i] - x[j]), labels[i] == labels[j]))
    return found


def counted(x, labels, queries, gallery, unit, **options):
    own = np.array([gallery.index(i) if i in gallery else -1 for i in queries], dtype=np.int64)
    rows_q, rows_g = np.array(queries, dtype=np.int64), np.array(gallery, dtype=np.int64)
    return all_pairs(Points(x, rows_q, unit), labels[rows_q], Points(x, rows_g, unit), labels[rows_g], own, **options)


@st.composite
def cases(draw):
    n = draw(st.integers(2, 9))
    rows = st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True)
    queries = draw(rows)
    gallery = draw(st.one_of(st.just(queries), st.just(list(range(n))), rows))
    vectors = draw(st.lists(st.tuples(*[st.integers(-2, 2)] * 3).filter(any), min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    return np.array(vectors, dtype=np.float64), np.array(labels), queries, gallery, draw(st.booleans())


@pytest.mark.parametrize("exact", [True, False])
@given(case=cases(), tile=st.sampled_from([(1, 1), (2, 3), (512, 2048)]))
@settings(deadline=None)
def test_every_pair_is_counted_once(exact, case, tile):
    expected = by_hand(*case)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairing, "TILE", tile)
        patch.setattr(pairing, "EXACT", 2**21 if exact else 0)
        patch.setattr(pairing, "FULL", 5)
        if not expected:
            with pytest.raises(DataError, match="no pairs"):
                counted(*case, memory=2**30)
            return
        found = counted(*case, memory=2**30)
    values, same = np.array([v for v, _ in expected]), np.array([s for _, s in expected])
    assert (found.same.sum(), found.different.sum()) == (same.sum(), (~same).sum())
    assert (np.diff(found.similarities) > 0).all()
    assert (found.same + found.different > 0).all()
    width = 1e-7 if exact else 2e-4  # of distances the least that are told apart
    for kind, counts in ((same, found.same), (~same, found.different)):
        np.testing.assert_allclose(np.repeat(found.similarities, counts), np.sort(values[kind]), atol=width)


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("exact", [True, False])
def test_duplicates_are_ties(exact, unit, monkeypatch):
    monkeypatch.setattr(pairing, "EXACT", 2**21 if exact else 0)
    monkeypatch.setattr(pairing, "TILE", (7, 11))
    x = np.random.default_rng(0).normal(size=(3, 65))[np.arange(40) % 3].copy()
    labels = np.arange(40) % 4
    found = counted(x, labels, list(range(40)), list(range(40)), unit, memory=2**30)
    assert len(found.similarities) == 4  # three of different vectors, one of equal ones
    constant = counted(np.ones((9, 65)), labels[:9], list(range(9)), list(range(9)), unit, memory=2**30)
    assert area_under_curve(constant) == 0.5


@pytest.mark.parametrize("unit", [True, False])
def test_many_pairs_in_bins_give_the_area_of_all_similarities(unit, monkeypatch):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 30, 900)
    x = rng.normal(size=(30, 16))[labels] + 1.5 * rng.normal(size=(900, 16))
    x[0] *= 1000  # one outlier must not widen the bins of all others
    monkeypatch.setattr(pairing, "EXACT", 0)
    found = counted(x, labels, list(range(900)), list(range(900)), unit, memory=2**20)
    y = x / np.linalg.norm(x, axis=1, keepdims=True) if unit else x
    upper = np.triu_indices(900, 1)
    similarity = y @ y.T if unit else -np.linalg.norm(y[:, None] - y, axis=2)
    expected = roc_auc_score((labels[:, None] == labels)[upper], similarity[upper])
    assert area_under_curve(found) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("unit", [True, False])
def test_a_list_of_pairs_equals_a_loop(unit):
    x = np.random.default_rng(0).normal(size=(12, 5))
    left, right = Points(x, np.array([0, 1, 2, 0]), unit), Points(x, np.array([3, 3, 2, 5]), unit)
    found = listed_pairs(left, right, np.array([True, False, True, False]), memory=1)
    expected = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b) if unit else -np.linalg.norm(a - b)
        for a, b in zip(left.values[left.rows], right.values[right.rows], strict=True)
    ]
    np.testing.assert_allclose(found.similarities, np.sort(expected), atol=1e-12)
    assert found.same.sum() == found.different.sum() == 2


def test_vectors_may_be_a_memory_map(tmp_path):
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    labels, own = np.arange(50) % 3, np.arange(50)
    found = [all_pairs(Points(y), labels, Points(y), labels, own, memory=2**10) for y in (x, mapped)]
    np.testing.assert_array_equal(found[0].similarities, found[1].similarities)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_counts_the_same():
    x, labels = np.random.default_rng(0).normal(size=(300, 8)), np.arange(300) % 7
    own = np.arange(300)
    cpu, gpu = (
        all_pairs(Points(x, device=d), labels, Points(x, device=d), labels, own)
        for d in (torch.device("cpu"), torch.device("cuda"))
    )
    assert area_under_curve(cpu) == pytest.approx(area_under_curve(gpu), abs=1e-9)
