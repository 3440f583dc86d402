"""Ids: fields that came later leave old ids alone, and what makes numbers comparable is all in the protocol."""

import copy
import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from ruamel.yaml import YAML

from dml_bench import splits
from dml_bench.flow import VOCABULARY
from dml_bench.recipe import identity
from dml_bench.recipe.identity import APART, LATER, RULES, protocol_id, recipe_id
from dml_bench.recipe.reader import read_recipe, write_document, write_recipe

HERE = Path(__file__).parents[2]
GRIDS = ("quickstart", "reality_check/cub200", "proxynca_pp/cub200_2048_search")
OTHER = {
    ("subset",): [{"name": "few_shot", "images_per_class": 3, "seed": 0}],
    ("normalize",): "imagenet",
    ("evaluation", "distance"): "euclidean",
    ("training", "steps"): 7,
    ("training", "images"): 7,
    ("training", "augmentation", "crop"): "random",
    ("training", "augmentation", "crop_from"): 40,
    ("training", "augmentation", "crop_scale"): [0.2, 1.0],
    ("training", "augmentation", "crop_ratio"): [1.0, 1.0],
}


@pytest.fixture(scope="module")
def document():
    data = {"name": "folder", "path": "my_images"}
    recipe = {"dataset": data, "loss": "norm_softmax", "training": {"sampler": "random"}}
    return read_recipe(recipe, VOCABULARY)[0].recipe.document()


def parent(document, path):
    for part in path[:-1]:
        document = document[part]
    return document


@pytest.mark.parametrize("path", LATER, ids=".".join)
def test_a_later_field_at_its_default_leaves_the_id_of_older_recipes(document, path):
    older = copy.deepcopy(document)
    assert parent(older, path).pop(path[-1]) == LATER[path], "the default of the schema, which changes nothing"
    assert recipe_id(older) == recipe_id(document)


@pytest.mark.parametrize("path", LATER, ids=".".join)
def test_a_later_field_at_another_value_gives_another_id(document, path):
    changed = copy.deepcopy(document)
    parent(changed, path)[path[-1]] = OTHER.get(path, 0.25)
    assert recipe_id(changed) != recipe_id(document)


def test_ids_of_published_runs_are_what_they_were():
    with (HERE / "results" / "quickstart" / "results.csv").open(encoding="utf-8") as file:
        published = {(row["recipe_id"], row["seed"]) for row in csv.DictReader(file)}
    runs = read_recipe(HERE / "recipes" / "quickstart.yaml", VOCABULARY)
    assert {(run.recipe_id, str(run.recipe.seed)) for run in runs} == published


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_of_measurement_is_part_of_the_protocol(monkeypatch, rule):
    before = protocol_id("digest")
    monkeypatch.setitem(identity.RULES, rule, "another")
    assert protocol_id("digest") != before


def test_another_digest_of_the_data_is_another_protocol():
    assert protocol_id("digest") != protocol_id("other")


def read_text(text, folder):
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return read_recipe(path, VOCABULARY)


def reordered(value, rng):
    """Shuffle the keys of every mapping, however deep; lists stay as they are."""
    if isinstance(value, dict):
        keys = list(value)
        rng.shuffle(keys)
        return {key: reordered(value[key], rng) for key in keys}
    return [reordered(item, rng) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", GRIDS)
@settings(max_examples=4, deadline=None)
@given(rng=st.randoms(use_true_random=False))
def test_a_recipe_file_in_another_order_has_the_same_runs(tmp_path_factory, name, rng):
    path = HERE / "recipes" / f"{name}.yaml"
    shuffled = write_document(reordered(YAML(typ="safe").load(path), rng))
    runs = read_text(shuffled, tmp_path_factory.mktemp("reordered"))
    ids = [run.run_id for run in runs]
    assert len(set(ids)) == len(ids)
    assert set(ids) == {run.run_id for run in read_recipe(path, VOCABULARY)}


@settings(max_examples=20, deadline=None)
@given(rng=st.randoms(use_true_random=False))
def test_an_id_goes_by_no_order_of_keys(rng):
    document = read_recipe({"dataset": "digits", "loss": "softtriple"}, VOCABULARY)[0].recipe.document()
    assert recipe_id(reordered(document, rng)) == recipe_id(document)


@pytest.mark.parametrize("name", GRIDS)
def test_every_run_of_a_grid_is_the_same_with_its_defaults_spelt_out(tmp_path, name):
    for run in read_recipe(HERE / "recipes" / f"{name}.yaml", VOCABULARY):
        (again,) = read_text(write_recipe(run.recipe), tmp_path)
        assert again.run_id == run.run_id


def leaves(value, path=()):
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    else:
        yield path


def test_a_recipe_is_known_by_every_value_in_it_but_those_apart(document):
    for path in leaves(document):
        changed = copy.deepcopy(document)
        parent(changed, path)[path[-1]] = ["another value"]
        same = recipe_id(changed) == recipe_id(document)
        assert same == (path[0] in APART), ".".join(path)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "another"},
        {"description": "in other words"},
        {"data_root": "/elsewhere"},
        {"tuning": {"trials": 50, "folds": 4, "value": 0.5}},
        {"space": {"loss.scale": {"low": 8, "high": 64, "log": True}}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_changes_no_digit_leaves_the_ids_of_a_grid(change):
    recipe = {"dataset": "digits", "seeds": [0, 1], "grid": {"loss": ["arcface", "softtriple"]}}
    before, after = ([run.run_id for run in read_recipe(r, VOCABULARY)] for r in (recipe, {**recipe, **change}))
    assert after == before


def test_a_seed_is_another_run_of_the_same_recipe():
    first, second = read_recipe({"dataset": "digits", "loss": "arcface", "seeds": [0, 1]}, VOCABULARY)[:2]
    assert first.recipe_id == second.recipe_id
    assert first.run_id != second.run_id


@pytest.mark.parametrize("classes", [("a", "b"), ("c", "d")], ids=["training", "test"])
def test_an_image_moved_to_another_class_is_another_protocol(tmp_path, classes):
    pictures = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8, 3), dtype=np.uint8)
    for name, images in zip("abcd", pictures, strict=True):
        (tmp_path / name).mkdir()
        for i, pixels in enumerate(images):
            Image.fromarray(pixels).save(tmp_path / name / f"{name}{i}.png")
    dataset = {"name": "folder", "path": str(tmp_path), "image_size": 8}
    recipe = read_recipe({"dataset": dataset, "loss": "arcface"}, VOCABULARY)[0].recipe

    def protocol():
        splits._load.cache_clear()  # a process keeps the last data set it loaded
        return protocol_id(splits.load_split(recipe).digest)

    before = protocol()
    one, other = (tmp_path / name / f"{classes[0]}2.png" for name in classes)
    one.rename(other)
    assert protocol() != before
    other.rename(one)
    assert protocol() == before


def id_of(**parts):
    return read_recipe({"dataset": "digits", "loss": "norm_softmax"} | parts, VOCABULARY)[0].recipe_id


@pytest.mark.parametrize(
    "spellings",
    [
        [{"loss": {"name": "norm_softmax", "scale": value}} for value in (16, 16.0)],
        [{"loss": "pml.CircleLoss"}, *({"loss": {"name": "pml.CircleLoss", "gamma": value}} for value in (80, 80.0))],
        [{"loss": {"name": "pml.TripletMarginLoss", "margin": value}} for value in (0, 0.0, -0.0)],
        [{"evaluation": {"metrics": ["recall@1", f"tar@{far}"]}} for far in ("1e-3", "0.001", "1e-03")],
    ],
)
def test_a_number_is_the_same_however_it_is_written(spellings):
    assert len({id_of(**parts) for parts in spellings}) == 1
    assert id_of(**spellings[0]) != id_of()


def test_other_numbers_of_a_librarys_loss_are_other_recipes():
    assert len({id_of(loss={"name": "pml.CircleLoss", "m": m}) for m in (0, 0.25, 0.5, 1)}) == 4
