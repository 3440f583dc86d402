from __future__ import annotations

import numpy as np
import pytest

from dml_bench.errors import ResultsError
from dml_bench.evaluation.evaluate import evaluate
from dml_bench.reports.embedded import embedded
from dml_bench.reports.plots.canvas import rendered
from dml_bench.reports.plots.confusion import CLASSES, confusion, most_confused
from dml_bench.reports.style import looks
from dml_bench.reports.summary import sections


def figure_of(*runs):
    (section,) = sections(runs)
    return confusion(section, looks([section]))


def cells(figure):
    (axes,) = figure.axes
    return np.asarray(axes.images[0].get_array())


def noisy(classes: int, seed: int, noise: float = 0.5):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes) + 7, rng.integers(2, 9, classes))
    centers = rng.normal(size=(classes, 4))
    return centers[labels - 7] + noise * rng.normal(size=(len(labels), 4)), labels


def test_of_few_classes_all_are_shown_and_the_diagonal_is_recall_at_1(stored):
    runs, hits = [], []
    for seed in range(3):
        vectors, labels = noisy(5, 0, noise=0.5 + 0.1 * seed)
        runs.append(stored(vectors, labels, seed=seed))
        scores = evaluate(np.float32(vectors), labels, "recall@1")
        hits.append(scores.per_query["recall@1"])
    shown, mean = cells(figure_of(*runs)), np.mean(hits, axis=0)
    expected = [mean[labels == label].mean() for label in np.unique(labels)]
    assert shown.shape == (5, 5)
    assert np.allclose(np.diag(shown), expected)
    assert np.allclose(shown.sum(axis=1), 1)
    assert np.diag(shown) @ np.unique(labels, return_counts=True)[1] / len(labels) == pytest.approx(np.mean(hits))


def test_a_cell_is_the_share_of_a_classs_queries_whose_nearest_item_is_of_the_other(stored):
    vectors = [[1, 0], [1, 0.1], [1, 0.05], [0, 1], [0.1, 1], [-1, 0.3]]
    figure = figure_of(stored(vectors, [3, 3, 5, 5, 5, 3]))
    # By angle: 0, 5.7, 2.9, 90, 84.3 and 163 degrees.
    assert np.allclose(cells(figure), [[0, 1], [1 / 3, 2 / 3]])
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["", "100", "33", "67"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["3", "5"]


def test_of_many_classes_those_of_the_most_confused_pairs_are_shown_with_the_rest(stored):
    vectors, labels = noisy(40, 1)
    run = stored(vectors, labels)
    figure = figure_of(run)
    where = embedded(run)
    pairs = list(zip(where.labels[where.asking].tolist(), where.labels[where.nearest()].tolist(), strict=True))
    (axes,) = figure.axes
    names = [int(text.get_text()) for text in axes.get_yticklabels()]
    assert len(names) == len(set(names)) <= CLASSES
    assert axes.get_xticklabels()[-1].get_text() == f"{40 - len(names)} others"
    shown = cells(figure)
    assert np.allclose(shown.sum(axis=1), 1)
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            assert shown[i, j] == pytest.approx(pairs.count((a, b)) / sum(first == a for first, _ in pairs))
    mistakes = {(a, b): pairs.count((a, b)) + pairs.count((b, a)) for a in range(7, 47) for b in range(7, a)}
    assert mistakes[max(names[:2]), min(names[:2])] == max(mistakes.values())


def test_most_confused_pairs_stand_side_by_side():
    counts = np.diag(np.full(20, 50))
    counts[3, 17], counts[17, 3], counts[5, 9], counts[9, 17] = 4, 5, 7, 1
    assert most_confused(counts).tolist() == [3, 17, 5, 9]
    assert most_confused(np.eye(20, dtype=np.int64)).tolist() == []
    assert most_confused(np.ones((40, 40), np.int64)).size == CLASSES


def test_it_is_not_drawn_where_there_is_nothing_to_confuse(stored, make):
    assert figure_of(make()) is None
    assert figure_of(stored(np.eye(3), [4, 4, 4])) is None
    assert figure_of(stored(np.eye(3), [0, 1, 2], seed=1)) is None
    perfect = np.repeat(np.eye(20), 2, axis=0)
    assert figure_of(stored(perfect, np.repeat(np.arange(20), 2), seed=2)) is None


def test_rounding_hides_no_mistake(stored):
    angles = np.radians(np.concatenate([np.linspace(0, 30, 400), [15.01], np.linspace(90, 91, 400)]))
    labels = [0] * 400 + [1] * 401
    texts = [
        text.get_text()
        for text in figure_of(stored(np.stack([np.cos(angles), np.sin(angles)], 1), labels)).axes[0].texts
    ]
    assert texts == [">99", "<1", "<1", ">99"]


def test_the_same_bytes_every_time(stored):
    run = stored(*noisy(20, 2))
    first = rendered(lambda: figure_of(run))
    assert rendered(lambda: figure_of(run)) == first
    assert set(first) == {"png", "svg"}


def test_classes_are_called_by_their_names_where_these_are_known(stored):
    names = np.array(["a", "b", "c", "<script>alert(1)</script>", "d", "a $x$ name that is rather long"])
    vectors = [[1, 0], [1, 0.1], [1, 0.05], [0, 1], [0.1, 1], [-1, 0.3]]
    figure = figure_of(stored(vectors, [3, 3, 5, 5, 5, 3], class_names=names))
    (axes,) = figure.axes
    shown = [text.get_text() for text in axes.get_xticklabels()]
    assert [name[:4] for name in shown] == ["<scr", "a $x"] and [len(name) for name in shown] == [20, 20]
    assert "counted" not in figure.get_supxlabel()


def test_embeddings_that_do_not_name_every_class_are_damaged(stored):
    run = stored(np.eye(2), [0, 5], class_names=np.array(["a", "b"]))
    with pytest.raises(ResultsError, match="it must name every class"):
        embedded(run)
