from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from dml_bench.errors import ResultsError
from dml_bench.leaderboard.entries import KEPT, add, entries, row_of
from dml_bench.leaderboard.verify import verify


def problems(results) -> list[str]:
    return verify(results, entries(results))


def value(folder, name):
    return json.loads((folder / "record.json").read_text())[name]


def test_true_records_are_well_and_hold_numbers_only(results):
    assert problems(results) == []
    names = {path.name for path in (results / "records").rglob("*") if path.is_file()}
    assert names == set(KEPT)


def test_adding_twice_changes_nothing_and_another_record_is_refused(runs, results, change):
    assert add([runs], results) == []
    change("record.json", '"attempts": 1', '"attempts": 2')
    with pytest.raises(ResultsError, match="is there already with another record"):
        add([runs], results)


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("record.json", '"recall@1": 0.', '"recall@1": 0.9', "over its queries"),
        ("record.json", '"map@r": 0.', '"map@r": 1.', "out of its range"),
        ("record.json", '"protocol_id": "', '"protocol_id": "0', "is not that of its data and rules"),
        ("record.json", '"status": "ok"', '"status": "failed"', "failed: "),
        ("record.json", '"processor"', '"machine"', "does not tell its processor"),
        ("record.json", '"loss": "norm_softmax"', '"loss": "my_loss"', "its recipe of other names"),
        ("record.json", '"epochs": 1', '"epochs": 100', "differ"),
        ("recipe.yaml", "epochs: 1", "epochs: 2", "recipe.yaml makes"),
        ("recipe.yaml", "epochs: 1", "epochs: one", "training.epochs"),
        ("recipe.yaml", "seed: 0", "seed: 7", "recipe.yaml makes"),
        ("curve.csv", "0.", "1.", "curve.csv"),
    ],
)
def test_what_was_edited_is_found_and_named(results, change, name, old, new, said):
    folder = change(name, old, new)
    found = problems(results)
    assert any(said in line and str(folder) in line for line in found), found


def test_values_per_query_must_agree_with_each_other(results, change):
    folder = change("record.json", '"status": "ok"', '"status": "ok"')
    with np.load(folder / "per_query.npz") as stored:
        values = dict(stored)
    wrong = np.flatnonzero(values["recall@1"] == 0)[:1]
    right = np.flatnonzero(values["recall@1"] == 1)[:1]
    values["recall@1"][wrong], values["recall@1"][right] = 1, 0  # the mean stays
    np.savez_compressed(folder / "per_query.npz", **values)
    assert [line for line in problems(results) if "recall@1 of 2 queries is not what the rank" in line]
    (folder / "per_query.npz").write_bytes(b"nothing")
    assert [line for line in problems(results) if "damaged" in line]
    (folder / "per_query.npz").unlink()
    assert [line for line in problems(results) if "has no per_query.npz" in line]


def test_other_queries_are_found(results, change):
    folder = change("record.json", '"status": "ok"', '"status": "ok"')
    with np.load(folder / "per_query.npz") as stored:
        values = dict(stored)
    values["query"] = values["query"][::-1].copy()
    np.savez_compressed(folder / "per_query.npz", **values)
    assert [line for line in problems(results) if f"{folder.name} were not asked the same queries" in line]


def test_weights_pictures_and_wrong_names_are_found(results, change, copy):
    folder = change("record.json", '"status": "ok"', '"status": "ok"')
    (folder / "checkpoint.pt").write_bytes(b"weights")
    assert [line for line in problems(results) if "checkpoint.pt does not belong here" in line]
    (folder / "checkpoint.pt").unlink()
    copy(folder, "0123456789ab-s0")
    assert [line for line in problems(results) if "is named otherwise" in line]


def test_two_seeds_and_missing_references_are_too_little(results):
    for path in [*(results / "records").rglob("record.json")]:
        record = json.loads(path.read_text())
        if (record["loss"], record["seed"]) == ("contrastive", 2) or record["loss"] == "raw_pixels":
            shutil.rmtree(path.parent)
    found = problems(results)
    assert any(re.search(r"contrastive \(\w+\) has 2 seeds; 3 are the least", line) for line in found)
    assert any("has no row raw_pixels" in line for line in found)


def edited(folder, change):
    with np.load(folder / "per_query.npz") as stored:
        values = dict(stored)
    change(values)
    np.savez_compressed(folder / "per_query.npz", **values)


@pytest.mark.parametrize("name", ["recall@1", "map@r", "first_hit_rank"])
def test_a_metric_without_its_queries_is_refused(results, change, name):
    folder = change("record.json", '"status": "ok"', '"status": "ok"')
    edited(folder, lambda values: values.pop(name))
    assert problems(results) == [f"{folder}: per_query.npz has no column {name}, which the recipe's metrics have"]


def test_what_is_no_metric_of_the_recipe_is_refused(results, change):
    folder = change("record.json", '"recall@1": 0.', '"recall@3": 0.9, "recall@1": 0.')
    edited(folder, lambda values: values.update(embeddings=np.zeros(len(values["query"]))))
    assert problems(results) == [
        f"{folder}: recall@3 is no metric that the recipe asks for",
        f"{folder}: per_query.npz: embeddings does not belong here",
    ]
    edited(folder, lambda values: values.update(embeddings=np.zeros((len(values["query"]), 2))))
    assert any("one-dimensional" in line for line in problems(results))


@pytest.mark.parametrize("name", ["photo.jpg", "digits/photo.jpg", "digits/.more/embeddings.npz", "digits/more/q.png"])
def test_files_of_no_run_are_refused(results, name):
    path = results / "records" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    [line] = problems(results)
    assert line.startswith(f"{path.resolve()}: belongs to no run")


def test_a_place_of_one_machine_is_refused(results, change):
    change("record.json", '"data_root": null', '"data_root": "/home/me/data"')
    assert any("recipe: data_root: /home/me/data is a place of one machine" in line for line in problems(results))


def test_facts_that_differ_within_a_row_are_found(results, change):
    change("record.json", '"parameters": ', '"parameters": 1')
    assert any("its runs tell of" in line and "parameters" in line for line in problems(results))
    change("record.json", '"queries": 896', '"queries": 895')
    assert any("tell other facts of the data" in line for line in problems(results))


def test_a_network_chosen_on_the_test_classes_is_refused(results, change):
    old = '"selection": {\n   "name": "last"'
    folder = change("record.json", old, '"selection": {\n   "name": "test_oracle"')
    assert any("which a leaderboard refuses" in line and str(folder) in line for line in problems(results))


def test_a_row_is_found_by_how_its_id_begins(results):
    [first, *_] = entries(results).values()
    rows = row_of(results, first.recipe_id[:8])
    assert {run.recipe_id for run in rows.values()} == {first.recipe_id}
    assert [run.seed for run in rows.values()] == sorted(run.seed for run in rows.values())
    with pytest.raises(ResultsError, match="no row has this recipe id; there are .*digits"):
        row_of(results, "zzz")
    with pytest.raises(ResultsError, match="no row has this"):
        row_of(results, "")


def test_a_folder_without_records_is_named(tmp_path):
    with pytest.raises(ResultsError, match="no such folder; dml-bench leaderboard add"):
        entries(tmp_path)
