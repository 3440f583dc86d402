from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dml_bench.search import comparison, neighbors
from dml_bench.search.points import Points, cosine, euclidean
from dml_bench.search.ranks import rank
from dml_bench.search.relevance import Relevance, most_similar_relevant
from dml_bench.search.tiles import Workspace

SMALL = Workspace(queries=4, items=6, rows=2, columns=3, numbers=64)
"""Several blocks, slabs, strips and tiles even of ten points."""


def squared_distance(a, b):
    return sum((Fraction(x) - Fraction(y)) ** 2 for x, y in zip(a, b, strict=True))


def expected(queries, gallery, query_classes, gallery_classes, own, score):
    """Ranks of all relevant items by exact arithmetic: at a tie, those of another class come first."""
    found = {}
    for q, (x, c) in enumerate(zip(queries, query_classes, strict=True)):
        others = [
            (-score(x, y), gallery_classes[g] == c) for g, y in enumerate(gallery) if g != own[q]
        ]  # False sorts before True
        hits = [i + 1 for i, (_, same) in enumerate(sorted(others)) if same]
        if hits:
            found[q] = hits
    return found


def as_mapping(blocks):
    return {
        int(q): block.ranks[a:b].tolist()
        for block in blocks
        for q, a, b in zip(block.queries, block.starts[:-1], block.starts[1:], strict=True)
    }


def unit(vectors):
    """Vectors of integers whose length is an integer, so that a cosine is a fraction."""
    return [[Fraction(int(v), 5) for v in row] for row in vectors]


FIVES = [(5, 0), (0, 5), (-5, 0), (0, -5), (3, 4), (4, 3), (-3, 4), (4, -3), (-4, -3), (-3, -4)]
DEEP = st.sampled_from([0, 1000])
"""No list is read off the whole order, or every list is."""
rows = st.lists(st.tuples(st.sampled_from(FIVES), st.integers(0, 3)), min_size=1, max_size=14)


@settings(max_examples=150, deadline=None)
@given(
    rows=rows, depth=st.integers(0, 16), engine=st.sampled_from(["torch", "faiss"]), spare=st.integers(0, 3), deep=DEEP
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("small", [False, True])
def test_ranks_equal_exact_arithmetic_with_duplicates_ties_and_singletons(
    rows, depth, engine, spare, deep, dtype, small
):
    values, classes = [r[0] for r in rows], np.array([r[1] for r in rows])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbors, "SPARE", spare)
        patch.setattr(neighbors, "DEEP", deep)
        if small:
            patch.setattr(Workspace, "within", classmethod(lambda cls, *_: SMALL))
        points = Points(np.array(values, dtype=np.float64))
        found = as_mapping(rank(*cosine(points, points), Relevance.within(classes), depth, engine=engine, dtype=dtype))
    exact = expected(unit(values), unit(values), classes, classes, range(len(rows)), dot)
    check(found, exact, depth)


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def check(found, exact, depth):
    assert set(found) == set(exact)
    for query, hits in exact.items():
        shallow = [hit for hit in hits if hit <= depth]
        assert found[query] == (shallow or hits[:1])


numbers = st.integers(-3, 3)
plain = st.lists(st.tuples(st.tuples(numbers, numbers, numbers), st.integers(0, 2)), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(asked=plain, held=plain, depth=st.integers(0, 14), engine=st.sampled_from(["torch", "faiss"]), deep=DEEP)
@pytest.mark.parametrize("small", [False, True])
def test_distances_to_a_gallery_rank_as_exact_arithmetic_says(asked, held, depth, engine, deep, small):
    queries, gallery = (np.array([r[0] for r in part], dtype=np.float64) for part in (asked, held))
    classes, others = (np.array([r[1] for r in part]) for part in (asked, held))
    own = np.array([next((g for g, y in enumerate(held) if y == x), -1) for x in asked])  # some lie in the gallery
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbors, "DEEP", deep)
        if small:
            patch.setattr(Workspace, "within", classmethod(lambda cls, *_: SMALL))
        sides = euclidean(Points(queries, unit=False), Points(gallery, unit=False))
        found = as_mapping(rank(*sides, Relevance(classes, others, own), depth, engine=engine))
    score = lambda a, b: -squared_distance(a, b)  # noqa: E731
    whole = [[int(v) for v in row] for row in queries], [[int(v) for v in row] for row in gallery]
    check(found, expected(*whole, classes, others, own, score), depth)


def brute(x, y):
    """First ranks by a full float64 sort."""
    u = x.astype(np.float64)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    s = u @ u.T
    np.fill_diagonal(s, -np.inf)
    same = y[:, None] == y
    np.fill_diagonal(same, False)
    best = np.where(same, s, -np.inf).max(1)
    return 1 + ((s >= best[:, None]) & ~same).sum(1)


@pytest.mark.parametrize("depth", [0, 5])
def test_first_ranks_of_many_points_equal_a_full_sort(depth):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3000, 16)).astype(np.float32), rng.integers(0, 700, 3000)
    points = Points(x)
    found = {q: r[0] for q, r in as_mapping(rank(*cosine(points, points), Relevance.within(y), depth)).items()}
    exact = brute(x, y)
    counts = np.bincount(y)[y]
    assert found == {q: exact[q] for q in np.flatnonzero(counts > 1)}
    assert max(found.values()) > 2500


@pytest.mark.parametrize("depth", [0, 1000])
def test_a_thousand_and_one_duplicates_of_another_class_come_first(depth):
    rng = np.random.default_rng(1)
    query, others = rng.standard_normal((1, 24)), rng.standard_normal((3000, 24))
    x = np.concatenate([query, query + 1e-3, np.repeat(query, 1001, axis=0), others]).astype(np.float32)
    x[1] = x[0]  # the only other item of its class is a duplicate too
    y = np.concatenate([[0, 0], np.full(1001, 1), 2 + np.arange(3000) // 3])
    points = Points(x)
    found = as_mapping(rank(*cosine(points, points), Relevance.within(y), depth))
    assert found[0] == [1002]


@pytest.mark.parametrize("depth", [0, 3])
def test_identical_vectors_rank_every_other_class_first(depth):
    x, y = np.tile(np.array([[0.1, 0.2, 0.7]], dtype=np.float32), (600, 1)), np.arange(600) % 3
    points = Points(x)
    found = as_mapping(rank(*cosine(points, points), Relevance.within(y), depth))
    assert all(ranks == [401] for ranks in found.values())


def test_ranks_do_not_depend_on_memory_threads_engine_or_precision():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2500, 8)).astype(np.float32), rng.integers(0, 400, 2500)
    x[:300] = x[300:600]
    points = Points(x)
    run = lambda **options: as_mapping(rank(*cosine(points, points), Relevance.within(y), 12, **options))  # noqa: E731
    first, before = run(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert run() == first
    finally:
        torch.set_num_threads(before)
    assert run(memory=2**22) == first
    assert run(engine="faiss") == first
    assert run(dtype=torch.float64) == first


def test_the_nearest_relevant_item_is_found_whatever_the_sizes_of_the_classes():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((400, 6)), np.sort(rng.geometric(0.05, 400))
    points = Points(x)
    relevance = Relevance.within(y)
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    every = np.arange(400)
    descending = -np.sort(-np.where((y[:, None] == y) & ~np.eye(400, dtype=bool), u @ u.T, -np.inf), axis=1)
    for numbers in (1, 5000, 10**7):
        for count in (1, 3, 50):
            found = most_similar_relevant(*cosine(points, points), relevance, every, count, numbers).numpy()
            np.testing.assert_allclose(found, descending[:, :count], atol=1e-14)


def test_progress_is_told_and_ends_at_the_end():
    x, y = np.random.default_rng(4).standard_normal((100, 4)), np.arange(100) % 10
    heard = []
    list(rank(*cosine(Points(x), Points(x)), Relevance.within(y), tell=lambda done, total: heard.append((done, total))))
    assert heard[-1] == (100, 100)
    assert heard == sorted(heard)


@pytest.mark.parametrize("dense", [0, 10**9])
@pytest.mark.parametrize("sides", [cosine, euclidean])
def test_near_ties_count_the_same_one_by_one_and_a_tile_at_once(dense, sides, monkeypatch):
    monkeypatch.setattr(comparison, "DENSE", dense)
    rng = np.random.default_rng(5)
    x, y = rng.integers(1, 4, (2500, 3)).astype(np.float64), np.arange(2500) % 7
    points = Points(x, unit=sides is cosine)
    found = as_mapping(rank(*sides(points, points), Relevance.within(y)))
    whole = x.astype(int)
    products, squares = whole @ whole.T, (whole**2).sum(axis=1)
    if sides is cosine:  # in the order of the cosine: all products are positive
        score = [
            [Fraction(int(p) ** 2, int(a) * int(b)) for p, b in zip(row, squares, strict=True)]
            for row, a in zip(products[:40], squares, strict=False)
        ]
    else:
        score = (2 * products - squares)[:40].tolist()
    for query, row in enumerate(score):
        best = max(s for g, s in enumerate(row) if y[g] == y[query] and g != query)
        assert found[query] == [1 + sum(s >= best and y[g] != y[query] for g, s in enumerate(row))]


def test_twenty_thousand_comparisons_of_near_ties_are_never_made_one_by_one(monkeypatch):
    def refuse(*_):
        raise AssertionError("pairs of a tile of duplicates are compared one by one")

    monkeypatch.setattr(comparison.Comparison, "similarities", refuse)
    points = Points(np.tile(np.array([[0.3, 0.1, 0.7]], dtype=np.float32), (400, 1)))
    found = as_mapping(rank(*cosine(points, points), Relevance.within(np.arange(400) % 2)))
    assert all(ranks == [201] for ranks in found.values())
