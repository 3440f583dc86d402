from fractions import Fraction
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dml_bench.errors import DataError
from dml_bench.search import neighbors
from dml_bench.search.neighbors import hits, rounding

ENGINES = ("auto", "faiss", "torch")


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def collect(embeddings, labels, depth, engine):
    blocks = list(hits(embeddings, np.asarray(labels), depth, engine=engine))
    return np.concatenate([b[0] for b in blocks]), np.concatenate([b[1] for b in blocks])


def exact_ranking(vectors, labels, query):
    """Rank by cosine in rational arithmetic: its sign and square are enough, and no rounding can split a tie."""

    def cosine(item):
        dot = sum(a * b for a, b in zip(vectors[query], vectors[item], strict=True))
        return Fraction(dot * abs(dot), sum(a * a for a in vectors[item]))

    others = [item for item in range(len(vectors)) if item != query]
    return sorted(others, key=lambda item: (-cosine(item), labels[item] == labels[query]))


def assert_equals_exact(vectors, labels, depth, engine):
    rows, found = collect(unit(vectors), labels, depth, engine)
    expected = [i for i in range(len(labels)) if labels.count(labels[i]) > 1]
    assert rows.tolist() == expected
    assert found.shape == (len(expected), min(depth, len(labels) - 1))
    for query, row in zip(expected, found, strict=True):
        ranking = exact_ranking(vectors, labels, query)[:depth]
        assert row.tolist() == [labels[item] == labels[query] for item in ranking]


@st.composite
def small_cases(draw):
    dim = draw(st.integers(1, 4))
    vector = st.lists(st.integers(-2, 2), min_size=dim, max_size=dim).filter(any)
    vectors = draw(st.lists(vector, min_size=2, max_size=24))
    labels = draw(st.lists(st.sampled_from([-7, 0, 5, 10**12]), min_size=len(vectors), max_size=len(vectors)))
    labels[-1] = labels[0]
    return vectors, labels


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=150, deadline=None)
@given(small_cases(), st.integers(1, 26), st.integers(0, 3))
@example(([[1]] * 2, [4, 4]), 1, 0)
@example(([[1, 1]] * 20, [1, 2] * 10), 3, 0)
def test_hits_equal_exact_arithmetic(engine, case, depth, spare):
    with (
        mock.patch.object(neighbors, "SPARE", spare),
        mock.patch.object(neighbors, "BLOCK", 5),
        mock.patch.object(neighbors, "WORKSPACE", 40),
        mock.patch.object(neighbors, "GATHER", 16),
    ):
        assert_equals_exact(*case, depth, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_thousand_and_one_duplicates_of_another_class_come_first(engine):
    generator = np.random.default_rng(0)
    twin = generator.normal(size=48)
    others = generator.normal(size=(900, 48))
    embeddings = unit(np.concatenate([[twin], others[:450], np.tile(twin, (1001, 1)), others[450:], [twin]]))
    labels = np.concatenate([[0], np.arange(450) + 10, np.full(1001, 1), np.arange(450) + 1000, [0]])
    rows, found = collect(embeddings, labels, 1003, engine)
    pair = found[np.isin(rows, [0, len(labels) - 1])]
    assert not pair[:, :1001].any()
    assert pair[:, 1001].all()


@pytest.mark.parametrize("engine", ENGINES)
def test_identical_vectors_rank_every_other_class_first(engine):
    embeddings = unit(np.tile(np.random.default_rng(1).uniform(0.5, 1, 512), (1500, 1)))
    labels = np.arange(1500) % 50
    _, found = collect(embeddings, labels, 29, engine)
    assert not found.any()
    _, all_ranked = collect(embeddings[:200], labels[:200], 199, engine)
    assert (all_ranked == (np.arange(199) >= 196)).all()


@pytest.mark.parametrize("make", ["duplicates", "collapsed", "plain"])
def test_faiss_agrees_with_a_full_sort_of_distances(make):
    generator = np.random.default_rng(2)
    labels = generator.integers(0, 150, 2000) * 3 - 100
    rows = generator.normal(size=(2000, 37))
    if make == "duplicates":
        rows = rows[generator.integers(0, 60, 2000)] * generator.uniform(0.1, 10, (2000, 1))
    if make == "collapsed":
        rows = rows[0] + 1e-4 * rows
    embeddings = unit(rows)
    queries, found = collect(embeddings, labels, 25, "faiss")
    # A distance between unit vectors, not a product: another formula than the one under test.
    for query, row in zip(queries[::7], found[::7], strict=True):
        similarity = 1 - np.square(embeddings - embeddings[query]).sum(axis=1) / 2
        same = labels == labels[query]
        order = np.argsort(rounding(37) * same - similarity)
        assert row.tolist() == same[order[order != query]][:25].tolist()


def test_the_engines_agree_whatever_the_thread_count():
    generator = np.random.default_rng(3)
    embeddings, labels = unit(generator.normal(size=(1500, 24))), generator.integers(0, 90, 1500)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results += [collect(embeddings, labels, 20, engine)[1] for engine in ENGINES]
    torch.set_num_threads(before)
    assert all((result == results[0]).all() for result in results)


def test_faiss_gets_its_own_thread_count_back():
    faiss = pytest.importorskip("faiss")
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    collect(unit(np.eye(4) + 0.1), [0, 0, 1, 1], 2, "faiss")
    assert faiss.omp_get_max_threads() == 3
    faiss.omp_set_num_threads(before)


@pytest.mark.parametrize("engine", ENGINES)
def test_items_without_a_partner_can_be_found_but_do_not_ask(engine):
    rows, found = collect(unit([[1, 0], [0.9, 0.1], [0.8, 0.6]]), [5, 7, 5], 2, engine)
    assert rows.tolist() == [0, 2]
    assert found.tolist() == [[False, True], [False, True]]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_index_that_is_not_a_query_does_not_shift_the_others(engine):
    generator = np.random.default_rng(4)
    embeddings = unit(generator.normal(size=(40, 5)))
    labels = np.concatenate([[100, 101, 102], np.repeat(np.arange(12), 3), [103]])
    rows, found = collect(embeddings, labels, 39, engine)
    assert rows.tolist() == list(range(3, 39))
    assert (found.sum(axis=1) == 2).all()


def test_without_a_pair_there_is_nothing_to_retrieve():
    with pytest.raises(DataError, match="no class has two items"):
        hits(unit(np.eye(3)), np.array([1, 2, 3]), 1)


def test_depth_zero_is_refused():
    with pytest.raises(ValueError, match="depth must be at least 1"):
        hits(unit(np.eye(2)), np.array([1, 1]), 0)


def test_nearly_collapsed_classes_are_still_told_apart():
    """Ten tight classes, closer to each other than float32 can tell, in eight dimensions."""
    generator = np.random.default_rng(0)
    centers = unit(np.ones(8) + 1e-5 * generator.normal(size=(10, 8)))
    labels = np.repeat(np.arange(10), 6)
    embeddings = unit(centers[labels] + 1e-8 * generator.normal(size=(60, 8)))
    for engine in ("faiss", "torch"):
        _, found = collect(embeddings, labels, 5, engine)
        assert found.all()
