from collections import Counter
from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from dml_bench.search.cloud import gather
from dml_bench.search.clusters import kmeans, plus_plus, restarts
from dml_bench.search.nearest import nearest
from dml_bench.search.points import Points


def blobs(clusters, each, dim, spread=0.01, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(clusters), each)
    return 10 * generator.normal(size=(clusters, dim))[labels] + spread * generator.normal(
        size=(len(labels), dim)
    ), labels


def same_partition(a, b):
    return len(set(zip(a.tolist(), b.tolist(), strict=True))) == len(set(a.tolist())) == len(set(b.tolist()))


def inertia(points, assignment):
    return sum(
        np.square(points[assignment == c] - points[assignment == c].mean(axis=0)).sum() for c in np.unique(assignment)
    )


def test_separated_blobs_are_found():
    points, labels = blobs(40, 15, 16)
    assert all(same_partition(labels, kmeans(points, 40, seed)) for seed in range(5))


def test_nearly_collapsed_blobs_are_found_though_faiss_counts_in_float32():
    points, labels = blobs(20, 10, 8)
    tiny = 1 + 1e-8 * points / np.abs(points).max()
    assert same_partition(labels, kmeans(tiny, 20, 0))


def test_every_point_is_with_its_nearest_mean():
    points = np.random.default_rng(5).normal(size=(900, 6))
    assignment = kmeans(points, 12, 0)
    means = np.stack([points[assignment == c].mean(axis=0) for c in range(12)])
    distances = np.square(points[:, None] - means).sum(axis=2)
    assert (distances[np.arange(900), assignment] <= distances.min(axis=1) + 1e-5).all()


def test_inertia_is_as_low_as_that_of_scikit_learn():
    points = np.random.default_rng(6).normal(size=(1500, 8))
    ours = np.mean([inertia(points, kmeans(points, 30, seed)) for seed in range(5)])
    theirs = np.mean([KMeans(30, n_init=1, random_state=seed).fit(points).inertia_ for seed in range(5)])
    assert ours < 1.02 * theirs


def test_all_points_are_used_however_few_the_clusters():
    points, _ = blobs(2, 3000, 4, spread=1.0)
    assert len(kmeans(points, 2, 0)) == 6000


def test_the_result_follows_from_the_seed_and_not_from_the_thread_count():
    points = np.random.default_rng(7).normal(size=(800, 10))
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 1):
        torch.set_num_threads(threads)
        np.random.seed(threads)
        results.append(kmeans(points, 25, 3))
    torch.set_num_threads(before)
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).all()
    assert not same_partition(results[0], kmeans(points, 25, 4))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(-1, 1)] * 2), min_size=1, max_size=30), st.integers(1, 40), st.integers(0, 9))
def test_duplicates_stay_together_and_no_cluster_number_is_out_of_range(rows, clusters, seed):
    points = np.array(rows, dtype=np.float64)
    assignment = kmeans(points, clusters, seed)
    distinct = len(set(rows))
    assert assignment.shape == (len(rows),)
    assert assignment.dtype == np.int64
    assert 0 <= assignment.min() <= assignment.max() < clusters
    assert all(len({int(a) for a, r in zip(assignment, rows, strict=True) if r == row}) == 1 for row in rows)
    assert len(np.unique(assignment)) <= min(clusters, distinct)
    if clusters >= distinct:
        assert len(np.unique(assignment)) == distinct


def test_nothing_is_printed(capfd):
    kmeans(np.random.default_rng(8).normal(size=(50, 3)), 40, 0)
    assert capfd.readouterr() == ("", "")


def test_no_cluster_is_refused():
    with pytest.raises(ValueError, match="clusters must be at least 1"):
        kmeans(np.eye(3), 0, 0)


def test_engines_agree_and_memory_maps_are_read_by_block(tmp_path):
    rows, _ = blobs(30, 20, 160, spread=8.0)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    expected = kmeans(rows, 30, 1, engine="torch")
    assert same_partition(expected, kmeans(rows, 30, 1))
    assert same_partition(expected, kmeans(rows, 30, 1, engine="faiss"))
    assert same_partition(expected, kmeans(mapped, 30, 1, engine="torch", memory=2**16))


def test_restarts_are_single_runs_and_points_may_be_brought_to_length_1():
    rows = np.random.default_rng(9).normal(size=(400, 12))
    points = Points(rows, rows=np.arange(0, 400, 2))
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True))[::2]
    for seed, found in zip((4, 5), restarts(points, 15, [4, 5]), strict=True):
        assert (found == kmeans(points, 15, seed)).all()
        assert same_partition(found, kmeans(unit, 15, seed))


@pytest.mark.parametrize("engine", ["torch", "faiss"])
@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 40), centers=st.integers(1, 700), seed=st.integers(0, 99))
def test_the_two_nearest_equal_a_full_sort(engine, rows, centers, seed):
    generator = torch.Generator().manual_seed(seed)
    x, c = torch.randn(rows, 5, generator=generator), torch.randn(centers, 5, generator=generator)
    found = nearest(c, engine)(x)
    distances = (x[:, None].double() - c.double()).square().sum(dim=2) - x.double().square().sum(dim=1, keepdim=True)
    ordered = distances.sort(dim=1).values
    assert torch.allclose(found.first.double(), ordered[:, 0], atol=1e-5)
    assert torch.allclose(distances.gather(1, found.center[:, None])[:, 0], ordered[:, 0], atol=1e-5)
    second = ordered[:, 1] if centers > 1 else torch.full((rows,), torch.inf, dtype=torch.float64)
    assert torch.allclose(found.second.double(), second, atol=1e-5)


def test_centers_start_with_the_probabilities_of_k_means_plus_plus():
    values = np.array([0.0, 1.0, 3.0, 7.0])
    cloud, generator = gather(Points(values[:, None], unit=False), 2**20), np.random.default_rng(0)
    seen = Counter(tuple(plus_plus(cloud, 3, generator)[0].tolist()) for _ in range(3000))
    for order in permutations(range(4), 3):
        squared, chance = np.full(4, np.inf), 1 / 4
        for before, now in pairwise(order):
            squared = np.minimum(squared, (values - values[before]) ** 2)
            chance *= squared[now] / squared.sum()
        assert abs(seen[order] / 3000 - chance) < 4 * np.sqrt(chance / 3000) + 1e-3


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(2, 12), st.sampled_from([2, 150]), st.sampled_from(["auto", "torch"]))
def test_lloyd_ends_at_a_fixed_point_with_duplicates_counted(seed, clusters, dim, engine):
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(60, dim))[generator.integers(60, size=150)]
    found = kmeans(rows, clusters, seed, engine=engine)
    used = np.unique(found)
    means = np.stack([rows[found == c].mean(axis=0) for c in used])
    distances = np.square(rows[:, None] - means).sum(axis=2)
    assert (distances[np.arange(150), np.searchsorted(used, found)] <= distances.min(axis=1) + 1e-4 * dim).all()


@pytest.mark.parametrize("rows, dim", [(300, 8), (300, 160)])  # 160: by the products of all rows
def test_a_restart_that_is_stopped_says_so(rows, dim, monkeypatch):
    points, told = np.random.default_rng(0).normal(size=(rows, dim)).astype(np.float32), []
    list(restarts(points, 12, [0, 1], on_limit=lambda: told.append(1)))
    assert told == []
    monkeypatch.setattr("dml_bench.search.lloyd.ITERATIONS", 2)
    monkeypatch.setattr("dml_bench.search.clusters.ITERATIONS", 2)
    list(restarts(points, 12, [0, 1], on_limit=lambda: told.append(1)))
    assert told == [1, 1]
