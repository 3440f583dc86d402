from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from dml_bench.errors import ResultsError
from dml_bench.evaluation.evaluate import evaluate
from dml_bench.reports import embedded as module
from dml_bench.reports.embedded import best_embedded, embedded, first_embedded
from dml_bench.reports.summary import sections

KINDS = ("cosine", "euclidean")


def crowd(seed: int, classes: int = 4, items: int = 60, masks: bool = False):
    """Embeddings with twins in the same and in other classes, a class of one, and masks that overlap."""
    rng = np.random.default_rng(seed)
    vectors, labels = rng.normal(size=(items, 3)).astype(np.float32), rng.integers(0, classes, items) * 3
    vectors[10:20] = vectors[:10]
    vectors[20:25] = 2 * vectors[:5]
    labels[-1] = 99
    parts = {} if not masks else {"query": rng.random(items) < 0.6, "gallery": rng.random(items) < 0.7}
    return vectors, labels, parts


def loop(vectors, labels, query, gallery, distance):
    """For each query with something to find, the label of its nearest item; at a tie one of another class."""
    rows = [[float(x) for x in row] for row in vectors]
    if distance == "cosine":
        rows = [[x / math.hypot(*row) for x in row] for row in rows]
    found = {}
    for q in np.flatnonzero(query):
        others = [g for g in np.flatnonzero(gallery) if g != q]
        if any(labels[g] == labels[q] for g in others):
            apart = {g: math.dist(rows[q], rows[g]) ** 2 for g in others}
            near = [g for g in others if apart[g] < min(apart.values()) + 1e-13]
            found[q] = next((labels[g] for g in near if labels[g] != labels[q]), labels[q])
    return found


@pytest.mark.parametrize("distance", KINDS)
@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_nearest_items_are_those_of_a_loop_and_of_the_evaluation(stored, seed, masks, distance, monkeypatch):
    vectors, labels, parts = crowd(seed, masks=masks)
    where = embedded(stored(vectors, labels, recipe={"evaluation": {"distance": distance}}, **parts))
    everyone = np.ones(len(labels), bool)
    expected = loop(vectors, labels, parts.get("query", everyone), parts.get("gallery", everyone), distance)
    found = where.labels[where.nearest()]
    assert dict(zip(where.asking, found, strict=True)) == expected
    hits = found == where.labels[where.asking]
    assert hits.mean() == evaluate(vectors, labels, "recall@1", distance=distance, **parts)["recall@1"]
    monkeypatch.setattr(module, "AT_ONCE", 100)
    assert (where.labels[where.nearest()] == found).all()


def test_collapsed_embeddings_find_nothing_as_in_the_evaluation(stored):
    labels = np.arange(8) % 2
    vectors = np.ones((8, 4), np.float32) + np.float32(1e-7) * np.eye(8, 4, dtype=np.float32)
    where = embedded(stored(vectors, labels))
    hits = where.labels[where.nearest()] == labels
    assert hits.mean() == evaluate(vectors, labels, "recall@1")["recall@1"]


def test_lengths_are_divided_out_for_the_cosine_only(stored):
    huge = [[3e30, 4e30], [1e-30, 0.0]]
    where = embedded(stored(huge, [0, 1]))
    assert np.allclose(where.vectors, [[0.6, 0.8], [1, 0]])
    raw = embedded(stored([[3, 4], [0, 0]], [0, 1], seed=1, recipe={"evaluation": {"distance": "euclidean"}}))
    assert raw.vectors.tolist() == [[3, 4], [0, 0]]


def test_nobody_asks_where_there_is_nothing_to_find(stored):
    assert embedded(stored([[1, 0], [0, 1]], [0, 1])).nearest().tolist() == []


def test_the_best_row_that_kept_embeddings_is_a_loss_if_any_is(stored, make):
    first = stored(np.eye(3), [0, 1, 2], "raw_pixels", metrics={"recall@1": 0.9})
    second = stored(np.eye(3), [0, 1, 2], "softtriple", 1, metrics={"recall@1": 0.5})
    runs = [first, second, make("softtriple", 0, metrics={"recall@1": 0.5}), make("arcface", metrics={"recall@1": 1.0})]
    (section,) = sections(runs)
    assert best_embedded(section.rows).loss == "softtriple"
    assert first_embedded(best_embedded(section.rows)).labels.tolist() == [0, 1, 2]
    assert best_embedded(sections([first])[0].rows).loss == "raw_pixels"
    assert best_embedded(sections([make()])[0].rows) is None


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"labels": np.arange(3)}, "must hold embeddings"),
        ({"embeddings": np.eye(3), "labels": np.arange(2)}, "must hold embeddings"),
        ({"embeddings": np.eye(3), "labels": np.arange(3), "query": np.ones(2, bool)}, "must hold embeddings"),
        ({"embeddings": np.full((3, 2), np.nan), "labels": np.arange(3)}, "not finite"),
        ({"embeddings": np.zeros((3, 2)), "labels": np.arange(3)}, "no direction"),
        (None, "cannot be read"),
    ],
)
def test_a_damaged_file_is_named(make, tmp_path, parts, said):
    path = tmp_path / "embeddings.npz"
    path.write_bytes(b"PK\x03\x04 cut off") if parts is None else np.savez(path, **parts)
    with pytest.raises(ResultsError, match=f"{path}: damaged.*{said}"):
        embedded(replace(make(), folder=tmp_path))
