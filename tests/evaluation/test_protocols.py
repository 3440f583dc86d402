"""Who asks and what is searched: ``evaluate`` against loops over pairs of items in exact arithmetic."""

import os
import re
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dml_bench.errors import DataError, DmlBenchError, OptionError
from dml_bench.evaluation.evaluate import evaluate
from dml_bench.search import neighbors

METRICS = ["recall@1", "recall@3", "recall@1000", "precision@2", "map@r", "map@3", "r_precision", "mrr"]
METRICS += [f"macro_{name}" for name in METRICS]


def nearness(query, item, distance):
    """A fraction that orders items as the distance to ``query`` does."""
    if distance == "euclidean":
        return -sum(Fraction(int(a) - int(b)) ** 2 for a, b in zip(query, item, strict=True))
    product = sum(int(a) * int(b) for a, b in zip(query, item, strict=True))
    return Fraction(product * abs(product), sum(int(b) ** 2 for b in item))


def per_query(hits, relevant):
    """Every metric of one query, from the list of whether the i-th nearest item is relevant."""

    def precision(k):
        return sum(hits[:k]) / k

    def average(k):
        return sum(precision(i + 1) for i in range(min(k, len(hits))) if hits[i]) / min(k, relevant)

    return {
        **{f"recall@{k}": float(any(hits[:k])) for k in (1, 3, 1000)},
        "precision@2": precision(2),
        "map@r": average(relevant),
        "map@3": average(3),
        "r_precision": precision(relevant),
        "mrr": 1 / (hits.index(True) + 1),
        "first_hit_rank": hits.index(True) + 1,
    }


def brute_force(asked, held, distance):
    """Values per query; both sides are lists of (row, vector, label), and equal rows are the same item."""
    found = {}
    for row, vector, label in asked:
        others = [(-nearness(vector, v, distance), other == label) for at, v, other in held if at != row]
        hits = [same for _, same in sorted(others)]  # a wrong item first among the equally near
        if any(hits):
            found[row] = per_query(hits, sum(hits)) | {"label": label}
    return found


def check(scores, expected, asked, held):
    assert scores.per_query["query"].tolist() == sorted(expected)
    for name, values in scores.per_query.items():
        if name != "query":
            assert values.tolist() == pytest.approx([expected[q][name] for q in sorted(expected)], abs=1e-12), name
    assert (scores.queries, scores.singletons) == (len(expected), len(asked) - len(expected))
    assert scores.gallery == len(held)
    assert list(scores) == METRICS
    classes = {values["label"] for values in expected.values()}
    for name in METRICS:
        plain = name.removeprefix("macro_")
        means = [np.mean([v[plain] for v in expected.values() if v["label"] == c]) for c in classes]
        whole = np.mean([v[plain] for v in expected.values()])
        assert scores[name] == pytest.approx(np.mean(means) if plain != name else whole, abs=1e-12), name


vector = st.lists(st.integers(-2, 2), min_size=3, max_size=3).filter(any)
options = st.fixed_dictionaries(
    {
        "distance": st.sampled_from(["cosine", "euclidean"]),
        "engine": st.sampled_from(["auto", "faiss", "torch"]),
        "precision": st.sampled_from(["float32", "float64"]),
        "memory": st.sampled_from(["64MiB", "1GB"]),
    }
)


@settings(max_examples=120, deadline=None)
@given(
    items=st.lists(st.tuples(vector, st.sampled_from([-5, 0, 3, 70]), st.booleans(), st.booleans()), max_size=24),
    options=options,
    listing=st.booleans(),
)
def test_masks_equal_exact_arithmetic(items, options, listing):
    vectors = np.array([item[0] for item in items]).reshape(-1, 3)
    labels, query, gallery = (
        np.array([item[i] for item in items], dtype) for i, dtype in ((1, int), (2, bool), (3, bool))
    )
    sides = [
        [(i, v, int(label)) for i, (v, label) in enumerate(zip(vectors, labels, strict=True)) if mask[i]]
        for mask in (query, gallery)
    ]
    expected = brute_force(*sides, options["distance"])
    with pytest.MonkeyPatch.context() as patch:
        if listing:  # lists of neighbors are proposed, as they are in a large gallery
            patch.setattr(neighbors, "DEEP", 1), patch.setattr(neighbors, "SPARE", 1)
        run = lambda: evaluate(vectors, labels, METRICS, query=query, gallery=gallery, **options)  # noqa: E731
        if not expected:
            with pytest.raises(DataError):
                run()
        else:
            check(run(), expected, *sides)


labelled = st.lists(st.tuples(vector, st.sampled_from([-5, 0, 3, 70])), min_size=1, max_size=14)


@settings(max_examples=120, deadline=None)
@given(asked=labelled, held=labelled, options=options, listing=st.booleans())
def test_a_gallery_apart_equals_exact_arithmetic(asked, held, options, listing):
    sides = [(i, *item) for i, item in enumerate(asked)], [(-1 - i, *item) for i, item in enumerate(held)]
    expected = brute_force(*sides, options["distance"])
    (queries, labels), (items, classes) = (([row[1] for row in s], [row[2] for row in s]) for s in sides)
    with pytest.MonkeyPatch.context() as patch:
        if listing:
            patch.setattr(neighbors, "DEEP", 1), patch.setattr(neighbors, "SPARE", 1)
        run = lambda: evaluate(queries, labels, METRICS, gallery=(items, classes), **options)  # noqa: E731
        if not expected:
            with pytest.raises(DataError):
                run()
        else:
            check(run(), expected, *sides)


def test_masks_of_everything_are_no_masks():
    rng = np.random.default_rng(0)
    rows, labels, everyone = rng.standard_normal((300, 8)), rng.integers(0, 60, 300), np.ones(300, dtype=bool)
    names = [*METRICS, "nmi", "center_accuracy", "roc_auc"]
    whole = evaluate(rows, labels, names)
    assert evaluate(rows, labels, names, query=everyone, gallery=everyone) == pytest.approx(dict(whole), nan_ok=True)


def test_a_gallery_apart_scores_as_the_same_items_behind_a_mask():
    rng = np.random.default_rng(1)
    rows, labels = rng.standard_normal((400, 8)).astype(np.float32), rng.integers(0, 50, 400)
    asks = np.arange(400) < 150
    names = [*METRICS, "nmi", "ami", "center_accuracy", "eer", "tar@0.01"]
    masked = evaluate(rows, labels, names, query=asks, gallery=~asks)
    apart = evaluate(rows[asks], labels[asks], names, gallery=(rows[~asks], labels[~asks]))
    assert dict(apart) == pytest.approx(dict(masked), nan_ok=True)
    for name, values in masked.per_query.items():
        assert (apart.per_query[name] == values).all(), name


def test_distractors_lower_ranks_and_are_no_members_of_clusters():
    rng = np.random.default_rng(2)
    rows, labels = rng.standard_normal((120, 4)), np.arange(120) % 12
    asks = np.arange(120) < 40
    far = (np.concatenate([rows[~asks], rows[asks]]), np.r_[labels[~asks], np.full(40, 999)])
    plain = evaluate(rows[asks], labels[asks], ["recall@1", "mrr", "nmi"], gallery=(rows[~asks], labels[~asks]))
    distracted = evaluate(rows[asks], labels[asks], ["recall@1", "mrr", "nmi"], gallery=far)
    assert distracted["recall@1"] == 0.0  # a copy of every query is a distractor
    assert (distracted.per_query["first_hit_rank"] > plain.per_query["first_hit_rank"]).all()
    assert distracted["nmi"] == plain["nmi"]
    assert distracted.gallery == plain.gallery + 40


def pixels(archive, name):
    with archive.open(name) as file:
        return np.asarray(Image.open(file).convert("RGB").resize((16, 16), Image.Resampling.BILINEAR), float).ravel()


def test_pictures_of_groceries_ask_the_official_gallery():
    folder = Path(os.environ.get("DML_BENCH_DATA", "")) / "grocery_store"
    if not (folder / "dataset.zip").is_file():
        pytest.skip("DML_BENCH_DATA names no folder with the grocery_store pack")
    rows, labels, asks = [], [], []
    with zipfile.ZipFile(folder / "dataset.zip") as archive:
        for split in ("train", "val", "test"):
            name = next(n for n in archive.namelist() if n.endswith(f"/{split}.txt") or n == f"{split}.txt")
            for line in archive.read(name).decode().split("\n"):
                path, label, *_ = [*re.split(r",\s*", line.strip()), "", ""]
                if path and int(label) > 40:
                    rows.append(pixels(archive, str(Path(name).parent / path)))
                    labels.append(int(label))
                    asks.append(split == "test")
    query = np.array(asks)
    apart = evaluate(np.array(rows), labels, ["recall@1"], query=query, gallery=~query)
    assert apart["recall@1"] == pytest.approx(0.20, abs=0.03)
    assert evaluate(np.array(rows), labels, ["recall@1"])["recall@1"] == pytest.approx(0.600, abs=0.03)


ROWS = np.arange(1.0, 13.0).reshape(6, 2)
LABELS = [0, 0, 1, 1, 2, 2]
MASK = np.array([True, False] * 3)


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ({"query": MASK}, "gallery: is needed too"),
        ({"gallery": MASK}, "query: is needed too"),
        ({"query": MASK[:5], "gallery": MASK}, r"query: must be \(6,\) of true and false, not bool \(5,\)"),
        ({"query": MASK.astype(int), "gallery": MASK}, "query: must be .* of true and false, not int64"),
        ({"query": MASK & False, "gallery": MASK}, "query: no row is in it"),
        ({"query": MASK, "gallery": ~MASK[:, None]}, "gallery: must be"),
        ({"query": MASK, "gallery": (ROWS, LABELS)}, "query: must not be given beside a gallery of its own"),
        ({"gallery": (ROWS[:, :1], LABELS)}, "gallery embeddings: must have 2 columns, as the others, not 1"),
        ({"gallery": (ROWS * np.nan, LABELS)}, "gallery embeddings: 6 of 6 rows hold NaN"),
        ({"gallery": (ROWS, LABELS[1:])}, r"gallery labels: must be \(6,\)"),
        ({"gallery": (ROWS, [7] * 6)}, "no class of the 6 queries has another item in the gallery of 6"),
        ({"query": [[True], [False, True]], "gallery": MASK}, "query: must be"),
        ({"device": "gpu"}, "device"),
        ({"memory": "1KB"}, "memory: must be bytes, at least 64MiB"),
        ({"memory": True}, "memory: must be bytes"),
        ({"seed": -1}, "seed: must be a whole number"),
        ({"metrics": ["macro_macro_recall@1"]}, "no metric named 'macro_macro_recall@1'"),
        ({"metrics": ["macro_nmi"]}, "no metric named 'macro_nmi'"),
        ({"metrics": ["recall@0"]}, "recall@0"),
        ({"metrics": ["recall@1.5"]}, "recall@1.5"),
        ({"metrics": ["recall@-1"]}, "recall@-1"),
    ],
)
def test_wrong_protocols_are_named(sides, message):
    with pytest.raises(DmlBenchError, match=message):
        evaluate(ROWS, LABELS, **{"metrics": ["recall@1"], **sides})


def test_labels_too_large_for_floats_stay_apart():
    labels = np.array([2**62, 2**62 + 1, 2**62, 2**62 + 1])
    rows = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    assert evaluate(rows, labels, ["recall@1"])["recall@1"] == 0.0
    apart = evaluate(rows, labels, ["recall@1"], gallery=(rows, labels.astype(np.uint64)))
    assert apart["recall@1"] == 1.0
    assert apart.per_query["label"].tolist() == labels.tolist()
    with pytest.raises(OptionError):
        evaluate(rows, labels, [])
