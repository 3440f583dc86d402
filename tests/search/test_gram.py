import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dml_bench.search.cloud import gather
from dml_bench.search.clusters import kmeans, plus_plus, restarts
from dml_bench.search.gram import lloyd_by_gram, nearest_rows, tabulate, worthwhile
from dml_bench.search.points import Points
from dml_bench.search.sums import grouped_sums


def cloud_of(rows, memory=2**26):
    return gather(Points(rows, unit=False), memory)


def separated(generator):
    return (10 * generator.normal(size=(12, 160)))[np.arange(600) % 12] + generator.normal(size=(600, 160))


def uniform(generator):
    return generator.uniform(size=(600, 160))


def duplicates(generator):
    return generator.normal(size=(90, 160))[generator.integers(90, size=600)]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 99))
def test_sums_of_groups_equal_a_product_with_their_members(rows, groups, seed):
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(rows, 7)).astype(np.float32)
    which, group = generator.integers(rows, size=40), generator.integers(groups, size=40)
    weights = generator.normal(size=40)
    members = np.zeros((groups, rows))
    np.add.at(members, (group, which), weights)
    found = grouped_sums(torch.from_numpy(values), which, group, weights, groups)
    assert np.allclose(found, members @ values, atol=1e-4)


def test_the_table_holds_the_products_and_a_row_of_ones():
    cloud = cloud_of(np.random.default_rng(0).normal(size=(700, 5)))
    table, rows = tabulate(cloud, 3), cloud.take(slice(None)).double()
    assert table.shape == (704, 700)
    assert torch.allclose(table[:700].double(), rows @ rows.T, atol=1e-5)
    assert (table[-1] == 1).all()


def test_the_nearest_of_some_rows_equal_a_full_sort():
    cloud = cloud_of(np.random.default_rng(1).normal(size=(50, 6)))
    which = np.array([3, 17, 40])
    rows = cloud.take(slice(None)).double()
    distances = torch.cdist(rows, rows[which]).square() - rows.square().sum(dim=1, keepdim=True)
    found, ordered = nearest_rows(tabulate(cloud, 1), which), distances.sort(dim=1)
    assert torch.allclose(found.first.double(), ordered.values[:, 0], atol=1e-5)
    assert (found.center == ordered.indices[:, 0]).all()
    assert torch.allclose(found.second.double(), ordered.values[:, 1], atol=1e-5)


def by_loops(cloud, start, owner, steps):
    x, copies = cloud.take(slice(None)).double().numpy(), cloud.copies.numpy()
    centers = x[start]
    for _ in range(steps):
        used = np.unique(owner)
        centers[used] = [np.average(x[owner == c], axis=0, weights=copies[owner == c]) for c in used]
        owner = np.square(x[:, None] - centers).sum(axis=2).argmin(axis=1)
    return owner


@pytest.mark.parametrize("steps", range(6))
@pytest.mark.parametrize("shape", [separated, uniform, duplicates])
def test_every_step_is_that_of_a_plain_loop(shape, steps):
    cloud = cloud_of(shape(np.random.default_rng(2)))
    start, state = plus_plus(cloud, 12, np.random.default_rng(3))
    found = lloyd_by_gram(cloud, tabulate(cloud, 12), start, state.center, steps)
    assert (found.numpy() == by_loops(cloud, start, state.center.numpy(), steps)).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 8))
def test_a_cluster_without_rows_keeps_its_center_and_may_win_some(seed, steps):
    generator = np.random.default_rng(seed)
    cloud = cloud_of(generator.normal(size=(9, 2))[generator.integers(9, size=30)])
    start = generator.permutation(len(cloud))[:4]
    index = torch.from_numpy(generator.integers(2, size=len(cloud)))  # two clusters have no rows at first
    found = lloyd_by_gram(cloud, tabulate(cloud, 4), start, index, steps)
    assert (found.numpy() == by_loops(cloud, start, index.numpy(), steps)).all()


@pytest.mark.parametrize("shape", [separated, uniform, duplicates])
def test_restarts_share_a_table_without_a_trace(shape):
    rows = shape(np.random.default_rng(4))
    assert worthwhile(cloud_of(rows), 12)
    for seed, found in zip((7, 8, 7), restarts(rows, 12, [7, 8, 7]), strict=True):
        assert (found == kmeans(rows, 12, seed)).all()


def test_no_table_beyond_the_memory():
    rows = np.random.default_rng(5).normal(size=(300, 160))
    assert not worthwhile(cloud_of(rows, 2 * 4 * 300 * 312), 12)
    assert worthwhile(cloud_of(rows, 2 * 4 * 300 * 313), 12)
