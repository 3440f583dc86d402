"""Settings are searched on held-out training classes, with one budget, and nothing else is looked at."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest

from dml_bench.data.dataset import ImageSet
from dml_bench.errors import RecipeError, ResultsError, TrainingError
from dml_bench.flow import VOCABULARY
from dml_bench.recipe.reader import read_recipe

pytest.importorskip("optuna", reason="optuna is not installed (extra tune)")

from dml_bench.runners import tuning as module
from dml_bench.runners.tuning import prepare, sealed, tune

RECIPE = {
    "name": "search",
    "dataset": "digits",
    "backbone": {"name": "pixels", "size": 4},
    "training": {"epochs": 1, "sampler": {"name": "random", "batch_size": 100}},
    "selection": {"name": "validation", "metric": "map@r", "folds": 2},
    "evaluation": {"metrics": ["recall@1"]},
    "grid": {"loss": ["softtriple", "arcface"]},
    "seeds": [0, 1],
    "space": {
        "loss.margin": {"low": 0.0, "high": 0.5},
        "training.optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True},
        "softtriple.centers_per_class": {"choices": [1, 3]},
    },
}


def search(folder, trials=3, recipe=RECIPE, **how):
    return tune(prepare(recipe, trials, out=folder, **how))


def plain(trials):
    return [(trial.study, trial.number, trial.params, trial.value, trial.folds) for trial in trials]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, search(folder)


def test_every_loss_has_the_same_budget(whole):
    folder, trials = whole
    assert [(trial.study, trial.number) for trial in trials] == [
        (name, number) for name in ("softtriple", "arcface") for number in (1, 2, 3)
    ]
    assert all(len(trial.folds) == 2 and np.mean(trial.folds) == pytest.approx(trial.value) for trial in trials)
    with (folder / "trials.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["value"]) for row in rows] == [trial.value for trial in trials]
    assert all(row["loss.centers_per_class"] in ("1", "3") for row in rows[:3])
    assert all(row["loss.centers_per_class"] == "" for row in rows[3:])


def test_the_best_settings_are_a_recipe_for_all_seeds(whole):
    folder, trials = whole
    for name in ("softtriple", "arcface"):
        best = max((trial for trial in trials if trial.study == name), key=lambda trial: trial.value)
        runs = [run for run in read_recipe(folder / "best" / f"{name}.yaml", VOCABULARY) if run.recipe.loss]
        assert [run.recipe.seed for run in runs] == [0, 1]
        recipe = runs[0].recipe
        assert recipe.loss["margin"] == best.params["loss.margin"]
        assert recipe.training.optimizer["lr"] == best.params["training.optimizer.lr"]
        assert recipe.selection == {**recipe.selection, "name": "validation", "metric": "map@r", "folds": 2}
        assert recipe.tuning["trials"] == 3
        assert recipe.tuning["value"] == best.value
        untold = runs[0].recipe.model_copy(update={"tuning": None})
        assert replace(runs[0], recipe=untold).recipe_id == runs[0].recipe_id


def test_no_test_class_is_looked_at(whole, tmp_path, monkeypatch):
    """With other test classes altogether, each setting and each value is the same to the last bit."""
    real = module.load_split

    def other(recipe):
        split, rng = real(recipe), np.random.default_rng(0)
        images = rng.integers(0, 256, split.test.images[:].shape, dtype=np.uint8)
        labels = rng.permutation(split.test.labels)
        return replace(split, test=ImageSet(images, labels, split.test.class_names), known_digest=split.digest)

    monkeypatch.setattr(module, "load_split", other)
    assert plain(search(tmp_path)) == plain(whole[1])


def test_the_test_part_of_a_trial_cannot_be_read():
    split = sealed(module.load_split(read_recipe({"dataset": "digits", "loss": "arcface"}, VOCABULARY)[0].recipe))
    for name in ("images", "labels", "class_names", "num_classes", "digest"):
        with pytest.raises(AssertionError, match=f"reads their {name}"):
            getattr(split.test, name)
    assert (split.query, split.gallery, split.pairs) == (None, None, None)


@pytest.mark.parametrize("at", [1, 4, 7])
def test_a_search_that_is_stopped_goes_on_to_the_same_trials(whole, tmp_path, monkeypatch, at):
    real, calls = module.validate, []

    def stops(recipe, **how):
        calls.append(recipe)
        if len(calls) == at:
            raise KeyboardInterrupt
        return real(recipe, **how)

    with monkeypatch.context() as patched:
        patched.setattr(module, "validate", stops)
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path)
    assert plain(search(tmp_path)) == plain(whole[1])
    assert plain(search(tmp_path)) == plain(whole[1])


@pytest.mark.parametrize("at", [1, 2, 5, 7])
def test_a_search_that_is_stopped_while_it_draws_goes_on_to_the_same_settings(tmp_path, monkeypatch, at):
    monkeypatch.setattr(module, "validate", lambda recipe, **how: recipe.loss["margin"])
    expected, real, calls = plain(search(tmp_path / "whole", folds=1)), module.suggest, []

    def stops(trial, dimension):
        calls.append(dimension)
        value = real(trial, dimension)
        if len(calls) == at:
            raise KeyboardInterrupt
        return value

    with monkeypatch.context() as patched:
        patched.setattr(module, "suggest", stops)
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path / "stopped", folds=1)
    assert plain(search(tmp_path / "stopped", folds=1)) == expected


def test_more_trials_may_be_asked_for_later(whole, tmp_path):
    search(tmp_path, 1)
    assert plain(search(tmp_path, 3)) == plain(whole[1])


def test_a_smaller_budget_is_the_same_for_all_losses_whatever_was_tried_before(whole, tmp_path, monkeypatch):
    real, calls = module.validate, []

    def stops(recipe, **how):
        calls.append(recipe)
        if len(calls) == 7:  # the first trial of the second loss
            raise KeyboardInterrupt
        return real(recipe, **how)

    with monkeypatch.context() as patched:
        patched.setattr(module, "validate", stops)
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path)
    assert [(trial.study, trial.number) for trial in search(tmp_path, 1)] == [("softtriple", 1), ("arcface", 1)]
    for name in ("softtriple", "arcface"):
        tuned = read_recipe(tmp_path / "best" / f"{name}.yaml", VOCABULARY)[0].recipe.tuning
        assert tuned["trials"] == 1


def test_a_rule_of_selection_may_be_named_alone():
    rules = [
        module._held_out(
            prepare({**RECIPE, "dataset": "glyphs", "selection": rule}, 1).studies[0], {}, module.Rule("map@r", 4, 4), 1
        )
        for rule in ("validation", {"name": "validation"})
    ]
    assert rules[0].recipe.selection == rules[1].recipe.selection
    assert rules[0].recipe.selection["every"] == 1


def test_the_best_settings_want_no_references_if_the_search_did_not(tmp_path):
    search(tmp_path, 1, recipe={**RECIPE, "references": False}, folds=1)
    assert all(run.recipe.loss for run in read_recipe(tmp_path / "best" / "arcface.yaml", VOCABULARY))


def test_a_setting_that_diverges_is_recorded_and_counts(tmp_path, monkeypatch):
    real, calls = module.validate, []

    def diverges(recipe, **how):
        calls.append(recipe)
        if len(calls) == 2:
            raise TrainingError("the loss is not finite")
        return real(recipe, **how)

    monkeypatch.setattr(module, "validate", diverges)
    trials = search(tmp_path, 2)
    assert len(trials) == 4
    assert math.isnan(trials[0].value)
    assert trials[0].reason == "TrainingError: the loss is not finite"
    assert "not finite" in (tmp_path / "trials.csv").read_text()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"training": {**RECIPE["training"], "epochs": 2}}, "recipe"),
        ({"space": {"loss.margin": {"low": 0.0, "high": 0.4}}}, "space"),
        ({"selection": {**RECIPE["selection"], "metric": "recall@1"}}, "rule"),
        ({"seeds": [1, 2]}, "seed"),
    ],
)
def test_a_study_of_something_else_is_refused(whole, change, what):
    with pytest.raises(ResultsError, match=f"study 'softtriple' of another .*{what}"):
        search(whole[0], recipe={**RECIPE, **change})


def test_mistakes_show_before_the_first_trial(tmp_path):
    oracle = {**RECIPE, "selection": {"name": "test_oracle"}}
    with pytest.raises(RecipeError, match="must be last or validation to be tuned, not test_oracle"):
        search(tmp_path, recipe=oracle)
    with pytest.raises(RecipeError, match="--folds 3: must be from 1 to 2"):
        search(tmp_path, folds=3)
    pxk = {"epochs": 1, "sampler": {"name": "pxk", "classes_per_batch": 4}}
    with pytest.raises(RecipeError, match="classes_per_batch: must be at most"):
        search(tmp_path, recipe={**RECIPE, "training": pxk})
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match="cannot write here"):
        search(tmp_path / "file")
    assert not (tmp_path / "study.db").exists()


def test_a_recipe_that_keeps_the_last_network_is_judged_by_it(tmp_path):
    recipe = {
        **RECIPE,
        "dataset": "glyphs",
        "selection": {"name": "last"},
        "space": {"loss.margin": {"low": 0.0, "high": 0.5}},
    }
    trials = search(tmp_path, 1, recipe=recipe, folds=1)
    assert [len(trial.folds) for trial in trials] == [1, 1]
    [run] = [run for run in read_recipe(tmp_path / "best" / "arcface.yaml", VOCABULARY) if run.recipe.loss][:1]
    assert run.recipe.selection == {"name": "last"}
    assert run.recipe.tuning["folds"] == 1
    assert run.recipe.tuning["parts"] == 4
