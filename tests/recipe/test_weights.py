"""The file of weights in a recipe's identity: what is in it counts, where it lies does not."""

import pytest

from dml_bench.errors import DataError, RecipeError
from dml_bench.flow import VOCABULARY
from dml_bench.recipe.identity import recipe_id
from dml_bench.recipe.reader import read_recipe, write_recipe
from dml_bench.recipe.weights import find, located

SHA = {"one": "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"}
"""By ``printf one | sha256sum``."""


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DML_BENCH_DATA", raising=False)


def write(path, content="one"):
    path.parent.mkdir(exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return str(path)


def run(*changes, **backbone):
    recipe = {"dataset": "digits", "loss": "norm_softmax", "normalize": "imagenet"}
    return read_recipe({**recipe, "backbone": {"name": "resnet18", **backbone}}, VOCABULARY, changes)[0]


def test_the_digest_is_filled_in(tmp_path):
    assert run(weights=write(tmp_path / "w.pth")).recipe.backbone["sha256"] == SHA["one"]


def test_the_same_file_elsewhere_is_the_same_recipe(tmp_path):
    first, second = write(tmp_path / "a" / "w.pth"), write(tmp_path / "b" / "other.pth")
    assert run(weights=first).recipe_id == run(weights=second).recipe_id


def test_another_file_is_another_recipe(tmp_path):
    first, second = write(tmp_path / "a.pth"), write(tmp_path / "b.pth", "two")
    assert len({run(weights=first).recipe_id, run(weights=second).recipe_id, run().recipe_id}) == 3


def test_a_file_that_changes_is_another_recipe(tmp_path):
    path = tmp_path / "w.pth"
    first = run(weights=write(path)).recipe_id
    assert run(weights=write(path, "changed since")).recipe_id != first


@pytest.mark.parametrize("digits", [8, 9, 64])
def test_a_stated_digest_needs_no_file(digits, tmp_path):
    stated = run(weights="not/here.pth", sha256=SHA["one"][:digits])
    assert stated.recipe.backbone["sha256"] == SHA["one"][:digits]
    assert stated.recipe_id == run(weights=write(tmp_path / "w.pth")).recipe_id


def test_the_digits_in_a_name_are_a_stated_digest(tmp_path):
    named = run(weights=f"not/here-{SHA['one'][:8]}.pth")
    assert named.recipe.backbone["sha256"] == SHA["one"][:8]
    assert named.recipe_id == run(weights=write(tmp_path / "w.pth")).recipe_id


def test_a_file_that_is_missing_needs_a_digest(tmp_path):
    path = tmp_path / "test.yaml"
    path.write_text(
        "dataset: digits\nloss: norm_softmax\nnormalize: imagenet\nbackbone:\n  name: resnet18\n  weights: w.pth\n",
        encoding="utf-8",
    )
    with pytest.raises(
        RecipeError, match=r"test\.yaml:6: backbone\.weights: there is no file w\.pth; .*; or state its"
    ):
        read_recipe(path, VOCABULARY)


def test_the_hub_needs_a_digest():
    with pytest.raises(RecipeError, match=r"backbone\.weights: needs its sha256 stated"):
        run(weights="hub")
    assert run(weights="hub", sha256=SHA["one"]).recipe_id == run(weights="w.pth", sha256=SHA["one"]).recipe_id


def test_files_are_looked_for_below_the_data_root_then_here(tmp_path, monkeypatch):
    here = write(tmp_path / "w.pth")
    assert str(find("w.pth", None)) == here
    root = write(tmp_path / "data" / "w.pth", "two")
    assert str(find("w.pth", str(tmp_path / "data"))) == root
    monkeypatch.setenv("DML_BENCH_DATA", str(tmp_path / "data"))
    assert str(find("w.pth", None)) == root
    assert str(find(here, None)) == here
    choice = {"name": "resnet18", "weights": "w.pth", "sha256": "x"}
    assert located(choice, None) == {**choice, "weights": root}
    with pytest.raises(DataError, match=r"there is no file .*data/v\.pth, v\.pth; name it absolutely"):
        find("v.pth", None)


@pytest.mark.parametrize("choice", [{"name": "convnet"}, {"name": "x", "weights": None, "sha256": None}])
def test_other_backbones_are_left_as_they_are(choice):
    assert located(choice, None) == choice


def test_a_written_recipe_has_the_same_id(tmp_path):
    first = run(weights=write(tmp_path / "w.pth"))
    copy = tmp_path / "copy.yaml"
    copy.write_text(write_recipe(first.recipe), encoding="utf-8")
    assert read_recipe(copy, VOCABULARY)[0].recipe_id == first.recipe_id


def test_the_default_pooling_leaves_ids_as_they_were():
    document = read_recipe({"dataset": "digits", "loss": "norm_softmax"}, VOCABULARY)[0].recipe.document()
    before = recipe_id(document)
    assert document["backbone"].pop("pooling") == "mean"
    assert recipe_id(document) == before
    assert recipe_id({**document, "backbone": {**document["backbone"], "pooling": "max"}}) != before
