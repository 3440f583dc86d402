import subprocess
import sys
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn
from sklearn.metrics.cluster import pair_confusion_matrix

from dml_bench.evaluation.clustering import contingency, expected_mutual_information
from dml_bench.evaluation.metrics import METRICS, ClusterMetric, parse_metric

AVERAGES = ["arithmetic", "geometric", "min", "max"]
partitions = st.lists(st.tuples(st.integers(-3, 5), st.integers(0, 6)), min_size=1, max_size=60).map(
    lambda pairs: np.array(pairs).T
)


def score(name, labels, clusters, **options):
    metric = METRICS.build(name, **options)
    assert isinstance(metric, ClusterMetric)
    return metric.score(np.asarray(labels), np.asarray(clusters))


@pytest.mark.parametrize("average", AVERAGES)
@settings(max_examples=60, deadline=None)
@given(both=partitions)
def test_nmi_equals_scikit_learn(average, both):
    expected = sklearn.normalized_mutual_info_score(*both, average_method=average)
    assert score("nmi", *both, average_method=average) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("average", AVERAGES)
@settings(max_examples=60, deadline=None)
@given(both=partitions)
def test_ami_equals_scikit_learn(average, both):
    groups = [len(np.unique(side)) for side in both]
    if 1 < max(groups) == len(both[0]):
        return  # 0 / 0 there, or rounding over something: defined below
    expected = sklearn.adjusted_mutual_info_score(*both, average_method=average)
    assert score("ami", *both, average_method=average) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(both=partitions)
def test_ari_and_pairwise_f1_equal_scikit_learn(both):
    assert score("ari", *both) == pytest.approx(sklearn.adjusted_rand_score(*both), abs=1e-12)
    (_, wrong), (missed, found) = pair_confusion_matrix(*both).tolist()
    expected = 2 * found / (2 * found + wrong + missed) if found + wrong + missed else 1
    assert score("pairwise_f1", *both) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(both=partitions)
def test_the_table_counts_the_items(both):
    table = contingency(*both)
    dense = np.zeros((len(table.classes), len(table.clusters)), dtype=int)
    dense[table.row, table.column] = table.shared
    names = [np.unique(side) for side in both]
    assert dense.tolist() == [[((both[0] == a) & (both[1] == b)).sum() for b in names[1]] for a in names[0]]
    assert table.classes.tolist() == dense.sum(axis=1).tolist()
    assert table.clusters.tolist() == dense.sum(axis=0).tolist()


@pytest.mark.parametrize("items, classes", [(3000, 40), (2500, 500), (4000, 3)])
def test_ami_equals_scikit_learn_on_uneven_groups_of_many_items(items, classes):
    generator = np.random.default_rng(items)
    labels = (classes * generator.random(items) ** 2).astype(np.int64)
    clusters = np.where(generator.random(items) < 0.5, labels, generator.permutation(labels))
    assert score("ami", labels, clusters) == pytest.approx(
        sklearn.adjusted_mutual_info_score(labels, clusters), abs=1e-9
    )


def test_the_expected_information_is_the_mean_over_all_ways_to_deal():
    labels, clusters = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 1])
    dealt = [sklearn.mutual_info_score(labels, list(deal)) for deal in permutations(clusters)]
    assert expected_mutual_information(np.array([3, 2, 1]), np.array([2, 4])) == pytest.approx(np.mean(dealt))


def test_random_clusters_score_0_when_adjusted():
    generator = np.random.default_rng(0)
    labels, clusters = generator.integers(300, size=(2, 2000))
    assert score("nmi", labels, clusters) > 0.6
    assert abs(score("ami", labels, clusters)) < 0.02
    assert abs(score("ari", labels, clusters)) < 0.02


ONE, EACH, HALVES = [0, 0, 0, 0], [3, 1, 2, 9], [0, 0, 1, 1]


@pytest.mark.parametrize(
    "labels, clusters, expected",
    [
        ([7], [0], (1, 1, 1, 1)),  # nmi, ami, ari, pairwise_f1
        (ONE, ONE, (1, 1, 1, 1)),
        (EACH, EACH, (1, 1, 1, 1)),
        (HALVES, [5, 5, 2, 2], (1, 1, 1, 1)),
        (ONE, EACH, (0, 0, 0, 0)),
        (ONE, HALVES, (0, 0, 0, 1 / 2)),
        (EACH, HALVES, (2 / 3, 0, 0, 0)),
    ],
)
def test_limits(labels, clusters, expected):
    names = ("nmi", "ami", "ari", "pairwise_f1")
    assert tuple(score(name, labels, clusters) for name in names) == pytest.approx(expected)
    assert tuple(score(name, clusters, labels) for name in names) == pytest.approx(expected)


@pytest.mark.parametrize("average", AVERAGES)
def test_ami_is_0_where_no_clustering_can_do_better_than_chance(average):
    assert score("ami", EACH, HALVES, average_method=average) == 0


def test_another_mean_has_another_name():
    assert parse_metric("nmi").name == "nmi"
    assert METRICS.build("nmi", average_method="geometric").name == "nmi_geometric"
    assert METRICS.build("ami", average_method="max").name == "ami_max"


def test_the_metrics_are_known_without_torch_scipy_and_scikit_learn():
    code = "import sys, dml_bench.evaluation.clustering; print({'torch', 'scipy', 'sklearn'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
