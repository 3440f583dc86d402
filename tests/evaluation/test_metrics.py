import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import normalized_mutual_info_score

from dml_bench.errors import OptionError
from dml_bench.evaluation.metrics import (
    METRICS,
    ClusterMetric,
    average_precision_at_r,
    first_hit_rank,
    found_within,
    normalized_mutual_information,
    parse_metric,
    precision_at_r,
)

HITS = np.array([[0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]], dtype=bool)


def test_values_worked_out_by_hand():
    relevant = np.array([2, 3, 4])
    assert first_hit_rank(HITS).tolist() == [2, 1, np.inf]
    assert found_within(HITS, 1).tolist() == [0, 1, 0]
    assert found_within(HITS, 9).tolist() == [1, 1, 0]
    assert precision_at_r(HITS, relevant) == pytest.approx([1 / 2, 1 / 3, 0])
    assert average_precision_at_r(HITS, relevant) == pytest.approx([(1 / 2) / 2, 1 / 3, 0])


@given(arrays.arrays(bool, (5, 7)), st.lists(st.integers(1, 7), min_size=5, max_size=5))
def test_ranking_values_equal_plain_loops(hits, relevant):
    average, precision = [], []
    for row, r in zip(hits.tolist(), relevant, strict=True):
        average.append(sum(sum(row[: i + 1]) / (i + 1) for i in range(r) if row[i]) / r)
        precision.append(sum(row[:r]) / r)
    counts = np.array(relevant)
    assert average_precision_at_r(hits, counts) == pytest.approx(average)
    assert precision_at_r(hits, counts) == pytest.approx(precision)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_nmi_equals_scikit_learn(pairs):
    labels, clusters = np.array(pairs).T
    expected = normalized_mutual_info_score(labels, clusters, average_method="arithmetic")
    assert normalized_mutual_information(labels, clusters) == pytest.approx(expected)


def test_nmi_is_arithmetic_and_symmetric():
    labels, clusters = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 2, 2])
    h_labels = -(4 / 6 * np.log(4 / 6) + 2 / 6 * np.log(2 / 6))
    assert normalized_mutual_information(labels, clusters) == pytest.approx(2 * h_labels / (h_labels + np.log(3)))
    assert normalized_mutual_information(clusters, labels) == pytest.approx(2 * h_labels / (h_labels + np.log(3)))


@pytest.mark.parametrize("name", ["recall@1", "recall@1000", "map@r", "r_precision", "nmi"])
def test_a_metric_bears_the_name_it_was_asked_by(name):
    assert parse_metric(name).name == name


def test_only_nmi_needs_clusters():
    clustered = [
        entry.name for entry in METRICS if isinstance(parse_metric(entry.name.replace("@k", "@1")), ClusterMetric)
    ]
    assert clustered == ["nmi"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("recal@1", "did you mean 'recall@1'?"),
        ("Recall@20", "did you mean 'recall@20'?"),
        ("recall@k", "did you mean 'recall@1'?"),
        ("recall", "did you mean 'recall@k'?"),
        ("recall@0", "no metric named 'recall@0'"),
        ("recall@-1", "no metric named 'recall@-1'"),
        ("recall@1.5", "no metric named"),
        ("recall@01", "no metric named"),
        ("recall@1\n", "no metric named"),
        ("map@5", "no metric named 'map@5' (did you mean 'map@r'?)"),
        ("map@R", "did you mean 'map@r'?"),
        ("nmi@3", "no metric named 'nmi@3'"),
        ("", "known: map@r, nmi, r_precision, recall@k"),
        ("@", "no metric named"),
        ("recall@" + "9" * 5000, "no metric named"),
    ],
)
def test_an_unknown_name_is_refused_with_the_closest_one(name, hint):
    with pytest.raises(OptionError) as error:
        parse_metric(name)
    assert hint in str(error.value)
    assert len(error.value.problems) == 1


def test_every_metric_has_a_definition_and_a_metric_can_be_named_without_torch():
    assert all(len(entry.doc) > 100 for entry in METRICS)
    code = "import sys, dml_bench.evaluation.metrics as m; m.parse_metric('recall@1'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "faiss", "sklearn"} & set(loaded)
