"""Ids: fields that came later leave old ids alone, and what makes numbers comparable is all in the protocol."""

import copy
import csv
from pathlib import Path

import pytest

from dml_bench.flow import VOCABULARY
from dml_bench.recipe import identity
from dml_bench.recipe.identity import LATER, RULES, protocol_id, recipe_id
from dml_bench.recipe.reader import read_recipe

HERE = Path(__file__).parents[2]
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
