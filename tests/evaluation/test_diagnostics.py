"""The shape of clouds of points against loops over all pairs and a full SVD."""

import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from dml_bench.errors import DataError
from dml_bench.evaluation import geometry
from dml_bench.evaluation.metrics import parse_metric
from dml_bench.search.points import Points


def score(name, x, labels, unit=False):
    return parse_metric(name).score(Points(x, unit=unit), labels)


def by_hand(name, x, labels):
    n = range(len(x))
    if name == "uniformity":
        return np.log(np.mean([np.exp(-2 * np.sum((x[i] - x[j]) ** 2)) for i, j in combinations(n, 2)]))
    within = [np.linalg.norm(x[i] - x[j]) for i, j in combinations(n, 2) if labels[i] == labels[j]]
    if name == "alignment":
        return np.mean(np.square(within))
    means = [x[labels == c].mean(axis=0) for c in np.unique(labels)]
    return np.mean(within) / np.mean([np.linalg.norm(a - b) for a, b in combinations(means, 2)])


@st.composite
def cases(draw):
    n, dim = draw(st.integers(2, 12)), draw(st.integers(1, 4))
    vectors = draw(st.lists(st.tuples(*[st.integers(-3, 3)] * dim).filter(any), min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    return np.array(vectors, float), np.array(labels), draw(st.permutations(range(n)))


@pytest.mark.parametrize("name", ["alignment", "uniformity", "intra_inter_ratio"])
@pytest.mark.parametrize("unit", [True, False])
@given(case=cases(), small=st.booleans())
@settings(deadline=None)
def test_values_equal_loops_over_pairs_in_any_order(name, unit, case, small):
    x, labels, order = case
    y = x / np.linalg.norm(x, axis=1, keepdims=True) if unit else x
    counts = np.unique(labels, return_counts=True)[1]
    means = np.array([y[labels == c].mean(axis=0) for c in np.unique(labels)])
    same = name != "uniformity" and counts.max() == 1
    apart = name == "intra_inter_ratio" and np.ptp(means, axis=0).max() < 1e-9
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(geometry, "TILE", (2, 3))
            patch.setattr(geometry, "ENTRIES", 12)
        if same or apart:
            if same or len(counts) == 1 or not np.ptp(means, axis=0).any():
                with pytest.raises(DataError):
                    score(name, x, labels, unit)
            return
        found = score(name, x, labels, unit)
        again = score(name, x[order], labels[order], unit)
    assert found == pytest.approx(by_hand(name, y, labels), rel=1e-9, abs=1e-12)
    assert again == pytest.approx(found, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("step", [2**22, 40])
@given(seed=st.integers(0, 10**6), n=st.integers(4, 40), dim=st.integers(1, 4))
@settings(deadline=None, max_examples=40)
def test_spectral_decay_equals_a_full_svd(step, seed, n, dim):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, dim)) * 10.0 ** -rng.integers(0, 5, dim)
    values = np.linalg.svd(x, compute_uv=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry, "ENTRIES", step)
        found = score("spectral_decay", x, np.zeros(n, dtype=np.int64))
    assert found == pytest.approx(entropy(np.full(dim, 1 / dim), values / values.sum()), rel=1e-9, abs=1e-9)


def test_values_worked_out_by_hand():
    square = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    labels = np.array([0, 1, 0, 1])
    assert score("alignment", square, labels) == pytest.approx(4)
    assert score("alignment", square, np.array([0, 0, 1, 1])) == pytest.approx(2)
    assert score("intra_inter_ratio", square, np.array([0, 0, 1, 1])) == pytest.approx(1)
    assert score("uniformity", square, labels) == pytest.approx(np.log((4 * np.exp(-4) + 2 * np.exp(-8)) / 6))
    assert score("spectral_decay", square, labels) == pytest.approx(0, abs=1e-12)
    assert score("spectral_decay", square[:1, :1], labels[:1]) == 0


def test_points_far_apart_do_not_vanish_in_uniformity():
    assert score("uniformity", np.array([[0.0], [100.0]]), np.array([0, 1])) == pytest.approx(-20000)


def test_near_duplicates_far_from_the_origin_keep_their_distance():
    x = 1e3 + np.array([[0.0, 0], [1e-6, 0], [1, 1], [1, 1]])
    expected = by_hand("intra_inter_ratio", x, np.array([0, 0, 1, 1]))
    assert score("intra_inter_ratio", x, np.array([0, 0, 1, 1])) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "x", "labels", "message"),
    [
        ("alignment", np.eye(3), [0, 1, 2], "no class has two items"),
        ("intra_inter_ratio", np.eye(3), [0, 1, 2], "no class has two items"),
        ("intra_inter_ratio", np.eye(3), [1, 1, 1], "all items are of the same class"),
        ("intra_inter_ratio", np.ones((4, 2)), [0, 0, 1, 1], "same point"),
        ("uniformity", np.ones((1, 2)), [0], "there are 1"),
        ("spectral_decay", np.ones((5, 2)), [0] * 5, "span 1 of 2 dimensions"),
        ("spectral_decay", np.eye(3)[:2], [0, 1], "span 2 of 3 dimensions"),
        ("spectral_decay", np.zeros((3, 2)), [0] * 3, "span 0 of 2 dimensions"),
    ],
)
def test_what_does_not_exist_is_an_error(name, x, labels, message):
    with pytest.raises(DataError, match=message):
        score(name, x, np.array(labels))


def test_all_points_equal():
    labels = np.array([0, 0, 1])
    assert score("alignment", np.ones((3, 2)), labels) == 0
    assert score("uniformity", np.ones((3, 2)), labels) == pytest.approx(0, abs=1e-12)


def test_diagnostics_can_be_named_without_torch():
    code = (
        "import sys, dml_bench.evaluation.metrics as m\n"
        "[m.parse_metric(n) for n in ('alignment', 'roc_auc', 'tar@1e-3', 'center_accuracy')]; print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "faiss", "sklearn", "scipy"} & set(loaded)
