import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from dml_bench.evaluation.metrics import parse_metric
from dml_bench.search.ranks import Ranks


def ranks_of(hits):
    """Ranks of the hits of each query; every list is whole."""
    found = [np.flatnonzero(row) + 1 for row in hits]
    sizes = np.array([len(row) for row in found])
    return Ranks(np.arange(len(hits)), sizes, np.concatenate([[0], np.cumsum(sizes)]), np.concatenate(found))


def value(name, hits):
    return parse_metric(name).per_query(ranks_of(hits)).tolist()


def test_values_worked_out_by_hand():
    hits = [[0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 1]]
    assert value("recall@1", hits) == [0, 1, 0]
    assert value("recall@9", hits) == [1, 1, 1]
    assert value("r_precision", hits) == [1 / 2, 1 / 2, 0]
    assert value("map@r", hits) == [(1 / 2) / 2, 1 / 2, 0]
    assert value("precision@3", hits) == pytest.approx([2 / 3, 1 / 3, 0])
    assert value("precision@8", hits) == [2 / 8, 2 / 8, 1 / 8]
    assert value("map@3", hits) == pytest.approx([(1 / 2 + 2 / 3) / 2, 1 / 2, 0])
    assert value("map@1", hits) == [0, 1, 0]
    assert value("mrr", hits) == [1 / 2, 1, 1 / 4]


lists = st.lists(st.lists(st.booleans(), min_size=9, max_size=9).filter(any), min_size=1, max_size=6)


@given(lists, st.integers(1, 12))
def test_values_equal_plain_loops(hits, k):
    expected = {name: [] for name in (f"recall@{k}", f"precision@{k}", f"map@{k}", "map@r", "r_precision", "mrr")}
    for row in hits:
        relevant = sum(row)

        def average(limit, row=row, relevant=relevant):
            gains = [sum(row[: i + 1]) / (i + 1) for i in range(min(limit, len(row))) if row[i]]
            return sum(gains) / min(limit, relevant)

        expected[f"recall@{k}"].append(float(any(row[:k])))
        expected[f"precision@{k}"].append(sum(row[:k]) / k)
        expected[f"map@{k}"].append(average(k))
        expected["map@r"].append(average(relevant))
        expected["r_precision"].append(sum(row[:relevant]) / relevant)
        expected["mrr"].append(1 / (1 + row.index(True)))
    for name, values in expected.items():
        assert value(name, hits) == pytest.approx(values), name


@given(lists)
def test_map_of_the_whole_list_is_the_average_precision_of_scikit_learn(hits):
    scores = -np.arange(9)
    assert value("map@9", hits) == pytest.approx([average_precision_score(row, scores) for row in hits])
