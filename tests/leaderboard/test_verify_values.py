"""Values that are in order one by one, and contradict each other: per query, per class, from seed to seed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import dml_bench
from dml_bench.leaderboard.entries import entries
from dml_bench.leaderboard.verify import centers_are_left_for_each_class, verify
from dml_bench.leaderboard.verify_queries import _against_ranks, queries_make_the_metrics
from dml_bench.results.record import RunRecord


def problems(results) -> list[str]:
    return verify(results, entries(results))


def folders(results, loss):
    found = [(run.seed, folder, run) for folder, run in entries(results).items() if run.loss == loss]
    return [(folder, run) for _, folder, run in sorted(found, key=lambda item: item[0])]


def forged(folder, **changes):
    """Change columns, each by a function of all of them, and let the record's metrics be the new means."""
    with np.load(folder / "per_query.npz") as stored:
        values = dict(stored)
    values |= {name: change(values).astype(values[name].dtype) for name, change in changes.items()}
    np.savez_compressed(folder / "per_query.npz", **values)
    record = json.loads((folder / "record.json").read_text())
    for name in record["metrics"].keys() & values.keys():
        record["metrics"][name] = float(values[name].astype(np.float64).mean())
    (folder / "record.json").write_text(json.dumps(record))
    return values


@pytest.fixture
def one(results):
    return folders(results, "norm_softmax")[0][0]


def ones(values):
    return np.ones(len(values["query"]))


def test_a_run_published_twice_is_refused(results):
    (first, run), (second, _), _ = folders(results, "norm_softmax")
    kept = json.loads((second / "record.json").read_text())
    record = json.loads((first / "record.json").read_text()) | {"seed": 1, "recipe": kept["recipe"]}
    for name in ("curve.csv", "per_query.npz"):
        shutil.copy(first / name, second / name)
    (second / "record.json").write_text(json.dumps(record))
    where = f"digits, protocol {run.protocol_id}: norm_softmax ({run.recipe_id}): seeds 0 and 1 have the same"
    assert problems(results) == [
        f"{where} loss curve; they are one run",
        f"{where} values of every query; they are one run",
    ]


def test_one_seed_s_values_in_place_of_another_s_are_refused(results):
    (first, run), (second, _), _ = folders(results, "contrastive")
    shutil.copy(first / "per_query.npz", second / "per_query.npz")
    record = json.loads((second / "record.json").read_text()) | {"metrics": dict(run.metrics)}
    (second / "record.json").write_text(json.dumps(record))
    [line] = problems(results)
    assert line.endswith("seeds 0 and 1 have the same values of every query; they are one run")
    shutil.copytree(second, results / "kept")
    forged(second, label=lambda values: values["label"])  # stored anew, the same values
    assert problems(results) == [line]


def test_references_and_what_tells_nothing_may_be_the_same(results):
    def alike(loss, **changes):
        """Give two seeds the same values per query."""
        (first, _), (second, _), *_ = folders(results, loss)
        forged(first, **changes)
        shutil.copy(first / "per_query.npz", second / "per_query.npz")
        forged(second)

    alike("untrained")
    assert problems(results) == []
    perfect = dict.fromkeys(("recall@1", "recall@4", "map@r", "r_precision", "first_hit_rank"), ones)
    alike("contrastive", **perfect)
    assert problems(results) == []
    for folder, run in folders(results, "contrastive")[:2]:
        record = json.loads((folder / "record.json").read_text())
        record["curve"][0]["loss"] = 0.0
        (folder / "record.json").write_text(json.dumps(record))
        curve = (folder / "curve.csv").read_text()
        (folder / "curve.csv").write_text(curve.replace(repr(run.curve[0].loss), "0.0"))
    assert problems(results) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict.fromkeys(("recall@1", "recall@4", "first_hit_rank"), ones), "map@r of {} is not what the rank"),
        ({"map@r": lambda values: np.minimum(values["r_precision"] + 0.1, 1)}, "map@r of {} is more than r_precision"),
        ({"r_precision": ones}, "map@r of {} is less than r_precision allows"),
        ({"map@r": lambda values: 0 * ones(values)}, "map@r of {} is less than r_precision allows"),
        ({"map@r": lambda values: 0 * ones(values)}, "map@r of {} is not what the rank of the first hit says"),
        ({"r_precision": lambda values: 0 * ones(values)}, "r_precision of {} is not what the rank of the first hit"),
        ({"recall@4": lambda values: values["recall@1"]}, "recall@4 of {} is not what the rank of the first hit says"),
        ({"recall@1": lambda values: 2 * values["recall@1"]}, "recall@1 of {} is not what the rank of the first hit"),
        ({"map@r": lambda values: values["map@r"] * np.where(values["query"] % 2, -1, 1)}, "map@r of {} is out of its"),
        ({"first_hit_rank": lambda values: values["first_hit_rank"] - 1}, "first_hit_rank of {} is no rank"),
        (
            {"first_hit_rank": lambda values: 500 + 0 * ones(values)},
            "map@r of {} is not what the rank of the first hit",
        ),
    ],
)
def test_values_of_one_query_must_not_contradict_each_other(results, one, changes, said):
    forged(one, **changes)
    begin, end = said.split("{}")
    found = problems(results)
    assert any(line.startswith(f"{one}: {begin}") and end in line for line in found), found


def test_a_hit_within_reach_must_count_and_one_at_rank_1_for_its_share(results, one):
    with np.load(one / "per_query.npz") as stored:
        values = dict(stored)
    far = int(values["first_hit_rank"].argmax())
    assert values["first_hit_rank"][far] > 1 and values["map@r"][far] > 0
    at_far = np.arange(len(values["query"])) == far

    def put(value):
        return lambda now: np.where(at_far, value, now["map@r"])

    forged(one, **{"map@r": put(1e-5), "r_precision": lambda now: np.where(at_far, 1e-3, now["r_precision"])})
    assert problems(results) == [
        f"{one}: {name} of 1 query is not what the rank of the first hit says" for name in ("map@r", "r_precision")
    ]


def test_other_metrics_of_ranks_are_held_against_the_rank_too():
    ranks = np.array([1, 3, 12])
    true = {"mrr": 1 / ranks, "precision@5": np.array([0.4, 0.2, 0]), "map@10": np.array([0.5, 0.1, 0])}
    assert not any(which.any() for _, which in _against_ranks(true, ranks))
    for name in true:
        said = [line for line, which in _against_ranks(true | {name: true[name][::-1]}, ranks) if which.any()]
        assert said == [f"{name} of {{}} is not what the rank of the first hit says"]


@pytest.mark.parametrize("masked", [None, "gallery", "both"])
def test_true_values_contradict_nothing_whoever_asks_and_is_searched(masked, tmp_path):
    rng = np.random.default_rng(0)
    names = ["recall@1", "recall@3", "map@r", "r_precision", "mrr", "precision@4", "map@5"]
    for _ in range(30):
        labels = rng.integers(0, 8, 60)
        vectors = rng.standard_normal((60, 4)) + rng.uniform(0, 3) * np.eye(8, 4)[labels]
        query, gallery = rng.random(60) < 0.7, rng.random(60) < 0.4
        query |= masked == "gallery"
        found = dml_bench.evaluate(vectors, labels, names, **({"query": query, "gallery": gallery} if masked else {}))
        values = {
            name: part.astype(np.float32) if part.dtype == float else part for name, part in found.per_query.items()
        }
        np.savez(tmp_path / "per_query.npz", **values)
        asking = int(query.sum()) if masked else 60
        assert asking == found.queries + found.singletons
        facts = {"test": {"images": 60}, "queries": found.queries, "singletons": found.singletons}
        ids = dict.fromkeys(("recipe_name", "recipe_id", "protocol_id", "dataset", "loss", "backbone"), "x")
        run = RunRecord(**ids, seed=0, embedding_dim=4, status="ok", metrics=dict(found), data=facts, folder=tmp_path,
                        recipe={"evaluation": {"metrics": names}})  # fmt: skip
        assert [*queries_make_the_metrics(tmp_path, run)] == []


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ((), "has no centers_left"),
        ((3, 3, 3), "centers_left has 3 entries, and there are 5 training classes"),
        ((1, 2, 3, 4, 1), "centers_left goes from 1 to 4, and must from 1 to 3, the centers per class"),
        ((0, 2, 3, 2, 1), "centers_left goes from 0 to 3, and must from 1 to 3, the centers per class"),
    ],
)
def test_centers_left_are_one_number_per_class(results, left, said):
    folder, run = folders(results, "softtriple")[0]
    assert len(run.centers_left) == run.data["train"]["classes"] == 5
    assert [*centers_are_left_for_each_class(folder, run)] == []
    assert [*centers_are_left_for_each_class(folder, replace(run, centers_left=left))] == [said]
    record = json.loads((folder / "record.json").read_text()) | {"centers_left": left}
    (folder / "record.json").write_text(json.dumps(record))
    assert problems(results) == [f"{folder}: {said}"]


@pytest.mark.parametrize("loss", ["norm_softmax", "untrained"])
def test_a_loss_with_one_center_per_class_has_none_left(results, loss):
    folder, run = folders(results, loss)[0]
    [line] = centers_are_left_for_each_class(folder, replace(run, centers_left=(1,) * 5))
    assert "its loss has one center per class" in line
