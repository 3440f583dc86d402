import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from dml_bench.search.clusters import kmeans


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
