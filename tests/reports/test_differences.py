from __future__ import annotations

from dataclasses import replace

from dml_bench.reports.differences import differences, facts_of, facts_of_recipe

RECIPE = {
    "name": "a", "dataset": {"name": "digits"}, "loss": {"name": "arcface", "margin": 0.1},
    "training": {"epochs": 3, "sampler": {"name": "pxk"}}, "seed": 0,
}  # fmt: skip
ENVIRONMENT = {"python": "3.11", "packages": {"torch": "2.6"}, "git": None, "processor": "x", "device": "cpu"}


def told(first, second):
    return {(d.group, d.path): (d.first, d.second) for d in differences(first, second)}


def run(make, **changes):
    values = {"recipe": RECIPE, "environment": ENVIRONMENT, "data": {"digest": "d", "train": {"images": 10}}}
    return make(recipe_id="r", **(values | changes))


def test_equal_runs_do_not_differ(make):
    assert told([facts_of(run(make))], [facts_of(run(make))]) == {}


def test_every_kind_of_difference_is_told(make):
    other = run(
        make,
        recipe=RECIPE | {"loss": {"name": "arcface", "margin": 0.2}, "seed": 7, "name": "b"},
        environment=ENVIRONMENT | {"packages": {"torch": "2.7"}, "processor": "y"},
        data={"digest": "e", "train": {"images": 11}},
        weights="abc",
        protocol_id="p1",
    )
    assert told([facts_of(run(make))], [facts_of(replace(other, recipe_id="s"))]) == {
        ("ids", "recipe_id"): ("r", "s"),
        ("ids", "protocol_id"): ("p0", "p1"),
        ("settings", "loss.margin"): ("0.1", "0.2"),
        ("settings", "seed"): ("0", "7"),
        ("data", "digest"): ("d", "e"),
        ("data", "train.images"): ("10", "11"),
        ("weights", "sha256"): ("random", "abc"),
        ("versions", "packages.torch"): ("2.6", "2.7"),
        ("hardware", "processor"): ("x", "y"),
        ("names", "name"): ("a", "b"),
    }


def test_results_are_no_difference(make):
    assert told([facts_of(run(make))], [facts_of(run(make, metrics={"nmi": 0.1}))]) == {}


def test_settings_that_older_records_lack_are_at_their_defaults(make):
    newer = run(make, recipe=RECIPE | {"training": RECIPE["training"] | {"clip_value": None, "chunk": None}})
    assert told([facts_of(newer)], [facts_of(run(make))]) == {}
    clipped = run(make, recipe=RECIPE | {"training": RECIPE["training"] | {"clip_value": 10}})
    assert told([facts_of(run(make))], [facts_of(clipped)]) == {("settings", "training.clip_value"): ("null", "10")}


def test_a_part_that_is_null_is_told_once(make):
    untrained = run(make, recipe=RECIPE | {"loss": None, "training": None})
    found = told([facts_of(run(make))], [facts_of(untrained)])
    assert found == {("settings", "loss"): ("set", "null"), ("settings", "training"): ("set", "null")}


def test_a_row_has_the_values_of_all_its_seeds(make):
    rows = [[facts_of(run(make, recipe=RECIPE | {"seed": s})) for s in seeds] for seeds in ((0, 1), (0, 2))]
    assert told(*rows) == {("settings", "seed"): ("0 | 1", "0 | 2")}


def test_a_recipe_is_compared_in_what_it_says(make):
    found = told([facts_of_recipe(RECIPE | {"seed": 1}, "r")], [facts_of(run(make))])
    assert found == {("ids", "protocol_id"): ("not set", "p0"), ("settings", "seed"): ("1", "0")}
