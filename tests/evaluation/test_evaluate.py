import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.metrics import normalized_mutual_info_score

import dml_bench
from dml_bench.errors import DataError, OptionError
from dml_bench.evaluation.evaluate import Scores, evaluate
from dml_bench.randomness import derive_seed
from dml_bench.recipe.schema import DEFAULT_METRICS
from dml_bench.search.clusters import kmeans

RANKING = DEFAULT_METRICS[:-1]


def plain_loops(embeddings, labels, k):
    """Recall@k, MAP@R, R-precision and the number of queries, one pair of items after the other."""
    recall, average, precision = [], [], []
    for query, label in enumerate(labels):
        others = [i for i in range(len(labels)) if i != query]
        relevant = sum(labels[i] == label for i in others)
        if not relevant:
            continue
        cosine = {
            i: float(np.dot(embeddings[query], embeddings[i]))
            / float(np.linalg.norm(embeddings[query]) * np.linalg.norm(embeddings[i]))
            for i in others
        }
        ranking = sorted(others, key=lambda i: (-round(cosine[i], 9), labels[i] == label))
        hit = [labels[i] == label for i in ranking]
        recall.append(any(hit[:k]))
        precision.append(sum(hit[:relevant]) / relevant)
        average.append(sum(sum(hit[: i + 1]) / (i + 1) for i in range(relevant) if hit[i]) / relevant)
    return np.mean(recall), np.mean(average), np.mean(precision), len(recall)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(1, 30))
def test_scores_equal_plain_loops(data, k):
    vector = st.lists(st.sampled_from([-1, 0, 1]), min_size=3, max_size=3).filter(any)
    vectors = np.array(data.draw(st.lists(vector, min_size=2, max_size=20)))
    labels = data.draw(st.lists(st.sampled_from([-3, 8, 900]), min_size=len(vectors), max_size=len(vectors)))
    labels[0] = labels[-1]
    scores = evaluate(vectors, labels, [f"recall@{k}", "map@r", "r_precision"])
    *expected, queries = plain_loops(vectors, labels, k)
    assert list(scores.values()) == pytest.approx(expected, abs=1e-12)
    assert (scores.queries, scores.singletons) == (queries, len(labels) - queries)


def test_scores_of_real_images_equal_plain_loops():
    digits = load_digits()
    rows, labels = digits.data[:300], digits.target[:300]
    *expected, _ = plain_loops(rows, labels.tolist(), 2)
    assert list(evaluate(rows, labels, ["recall@2", "map@r", "r_precision"]).values()) == pytest.approx(expected)


@pytest.mark.parametrize("sizes", [[12] * 40, [2, 3, 50, 7, 1, 30, 1]])
def test_ranking_scores_equal_pytorch_metric_learning(sizes):
    accuracy = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    names = {"precision_at_1": "recall@1", "mean_average_precision_at_r": "map@r", "r_precision": "r_precision"}
    calculator = accuracy.AccuracyCalculator(include=tuple(names), k="max_bin_count")
    generator = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    centers = torch.randn(len(sizes), 16, generator=generator)
    embeddings = torch.nn.functional.normalize(centers[labels] + torch.randn(len(labels), 16, generator=generator))
    expected = calculator.get_accuracy(embeddings, labels)
    scores = evaluate(embeddings, labels, list(names.values()))
    for theirs, ours in names.items():
        assert scores[ours] == pytest.approx(expected[theirs], abs=1e-6)
    assert scores.singletons == sizes.count(1)


def test_real_images_score_as_pytorch_metric_learning_says():
    accuracy = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    digits = load_digits()
    unit = torch.nn.functional.normalize(torch.from_numpy(digits.data).float())
    calculator = accuracy.AccuracyCalculator(include=("precision_at_1", "r_precision"), k="max_bin_count")
    expected = calculator.get_accuracy(unit, torch.from_numpy(digits.target))
    scores = evaluate(digits.data, digits.target, ["recall@1", "r_precision"])
    assert scores["recall@1"] == pytest.approx(expected["precision_at_1"], abs=1e-3)
    assert scores["r_precision"] == pytest.approx(expected["r_precision"], abs=1e-4)
    assert scores["recall@1"] > 0.95


def test_well_separated_classes_score_exactly_one():
    labels = np.repeat([5, -2, 7000], 20)
    embeddings = np.repeat(np.eye(3), 20, axis=0) + 0.01 * np.random.default_rng(0).normal(size=(60, 3))
    scores = evaluate(embeddings, labels, restarts=3)
    assert list(scores) == [*DEFAULT_METRICS, "nmi_restart_std"]
    assert all(scores[name] == 1.0 for name in DEFAULT_METRICS)
    assert scores["nmi_restart_std"] == 0.0


def test_a_thousand_and_one_duplicates_leave_recall_at_1000_at_zero():
    embeddings = np.concatenate([np.tile([3.0, 4.0, 5.0], (1003, 1)), np.random.default_rng(0).normal(size=(500, 3))])
    labels = np.concatenate([[0, 0], np.full(1001, 1), np.arange(500) + 2])
    scores = evaluate(embeddings.astype(np.float32), labels, ["recall@1000", "recall@1002"])
    assert scores.per_query["first_hit_rank"][:2].tolist() == [1002, 1002]
    assert scores.per_query["recall@1000"][:2].tolist() == [0, 0]
    assert scores.per_query["recall@1002"][:2].tolist() == [1, 1]


def test_one_class_is_always_retrieved():
    scores = evaluate(np.random.default_rng(0).normal(size=(30, 4)), [9] * 30)
    assert {value for name, value in scores.items() if name != "nmi_restart_std"} == {1.0}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_of_any_float_type_score_as_their_values(dtype):
    rows = torch.randn(80, 6, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    labels = torch.arange(80, dtype=torch.int32) % 7
    assert evaluate(rows, labels) == evaluate(rows.detach().double().numpy(), labels.tolist())


def test_integers_lists_and_other_layouts_are_numbers_too():
    rows = np.random.default_rng(2).integers(1, 9, size=(30, 4))
    labels = np.arange(30) % 4
    expected = evaluate(rows.astype(np.float64), labels)
    assert evaluate(rows.tolist(), labels.tolist()) == expected
    assert evaluate(rows.astype(np.uint8), labels.astype(np.uint8)) == expected
    assert evaluate(np.asfortranarray(rows), labels[::-1][::-1]) == expected


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e300])
def test_length_does_not_matter_even_where_its_square_overflows(scale):
    rows = np.random.default_rng(3).normal(size=(40, 5))
    labels = np.arange(40) % 5
    assert evaluate(rows * scale, labels, RANKING) == evaluate(rows, labels, RANKING)


def test_the_input_is_left_as_it_was():
    rows = np.random.default_rng(4).normal(size=(20, 3))
    before = rows.copy()
    rows.flags.writeable = False
    evaluate(rows, np.arange(20) % 2)
    assert (rows == before).all()


def test_nmi_is_the_mean_over_seeded_restarts():
    rows = np.random.default_rng(5).normal(size=(200, 4))
    labels = np.arange(200) % 15
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    values = [
        normalized_mutual_info_score(labels, kmeans(unit, 15, derive_seed(8, "kmeans", restart)))
        for restart in range(4)
    ]
    scores = evaluate(rows, labels, ["nmi"], restarts=4, seed=8)
    assert scores["nmi"] == pytest.approx(np.mean(values))
    assert scores["nmi_restart_std"] == pytest.approx(np.std(values, ddof=1))
    assert evaluate(rows, labels, ["nmi"], seed=8) == {"nmi": pytest.approx(values[0]), "nmi_restart_std": math.nan}
    assert scores.per_query == {}


def test_metrics_come_in_the_order_asked_for_and_once():
    rows, labels = np.random.default_rng(6).normal(size=(30, 3)), np.arange(30) % 3
    scores = evaluate(rows, labels, ["nmi", "r_precision", "recall@2", "nmi"], restarts=2)
    assert list(scores) == ["nmi", "nmi_restart_std", "r_precision", "recall@2"]
    assert all(type(value) is float for value in scores.values())
    assert list(evaluate(rows, labels, "map@r")) == ["map@r"]


def test_per_query_values_average_to_the_scores():
    rows = np.random.default_rng(7).normal(size=(60, 3))
    labels = np.r_[np.arange(50) % 9, np.arange(10) + 100]
    scores = evaluate(rows, labels, RANKING)
    assert scores.per_query["query"].tolist() == list(range(50))
    assert scores["map@r"] == pytest.approx(scores.per_query["map@r"].mean())
    assert scores["recall@4"] == (scores.per_query["first_hit_rank"] <= 4).mean()
    assert (scores.queries, scores.singletons) == (50, 10)


def test_clusters_need_no_pair():
    scores = evaluate(np.eye(3), [1, 2, 3], ["nmi"])
    assert (scores["nmi"], scores.queries, scores.singletons) == (1.0, 0, 3)
    with pytest.raises(DataError, match="no class has two items"):
        evaluate(np.eye(3), [1, 2, 3], ["nmi", "recall@1"])


def test_scores_print_and_save():
    scores = Scores({"recall@1": 0.5, "nmi": 1 / 3}, queries=4, singletons=2, gallery=6)
    assert scores.table().splitlines() == [
        "recall@1  0.5000",
        "nmi       0.3333",
        "4 queries among 6 items; 2 items without a partner",
    ]
    loaded = json.loads(scores.to_json())
    assert loaded == {"metrics": {"recall@1": 0.5, "nmi": 1 / 3}, "queries": 4, "singletons": 2, "gallery": 6}
    with pytest.raises(KeyError):
        scores["recall@3"]
    with pytest.raises(AttributeError):
        scores.queries = 3


def test_evaluate_is_public():
    assert dml_bench.evaluate is evaluate


GOOD = np.arange(1.0, 13.0).reshape(6, 2)
LABELS = [0, 0, 1, 1, 2, 2]


def broken(row, value):
    rows = GOOD.copy()
    rows[row] = value
    return rows


@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        (broken([2, 4], np.nan), LABELS, "2 of 6 rows hold NaN or infinity; the first is row 2"),
        (broken(5, -np.inf), LABELS, "1 of 6 rows hold NaN or infinity; the first is row 5"),
        (broken([3], 0), LABELS, "1 of 6 rows are zero vectors, which have no direction; the first is row 3"),
        (torch.full((6, 2), torch.nan), LABELS, "6 of 6 rows hold NaN"),
        (GOOD[0], LABELS, r"embeddings: must be \(N, D\)"),
        (GOOD[:, :, None], LABELS, r"embeddings: must be \(N, D\)"),
        (GOOD[:0], [], r"at least one row and column, not \(0, 2\)"),
        (GOOD[:, :0], LABELS, r"at least one row and column, not \(6, 0\)"),
        ([[1, 2], [3]], [0, 0], "embeddings: not an array of numbers"),
        (GOOD.astype(object), LABELS, "embeddings: must be real numbers, not object"),
        (GOOD.astype(complex), LABELS, "embeddings: must be real numbers, not complex128"),
        (torch.ones(6, 2, dtype=torch.complex64), LABELS, "embeddings: must be real numbers, not complex64"),
        (GOOD > 3, LABELS, "embeddings: must be real numbers, not bool"),
        (GOOD.astype(str), LABELS, "embeddings: must be real numbers"),
        (GOOD, LABELS[:5], r"labels: must be \(6,\), one per embedding, not \(5,\)"),
        (GOOD, np.array(LABELS)[:, None], r"labels: must be \(6,\), one per embedding, not \(6, 1\)"),
        (GOOD, np.array(LABELS, dtype=float), "labels: must be integers, not float64"),
        (GOOD, torch.zeros(6), "labels: must be integers, not float32"),
        (GOOD, list("aabbcc"), "labels: must be real numbers, not <U1"),
        (GOOD, range(6), "no class has two items"),
        (GOOD[:1], [3], "no class has two items"),
    ],
)
def test_wrong_input_is_named(embeddings, labels, message):
    with pytest.raises(DataError, match=message):
        evaluate(embeddings, labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["recal@1"]}, "did you mean 'recall@1'"),
        ({"metrics": []}, "metrics: names no metric"),
        ({"restarts": 0}, "restarts: must be a whole number, at least 1, not 0"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(OptionError, match=message):
        evaluate(GOOD, LABELS, **options)


def test_a_clustering_that_is_stopped_is_counted(monkeypatch):
    points, labels = np.random.default_rng(0).normal(size=(300, 8)), np.arange(300) % 12
    assert evaluate(points, labels, ["nmi"], restarts=3).unconverged == 0
    monkeypatch.setattr("dml_bench.search.lloyd.ITERATIONS", 2)
    assert evaluate(points, labels, ["nmi", "ari"], restarts=3).unconverged == 3
