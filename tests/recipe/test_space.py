"""What a recipe lets a search choose is checked whole, with file and line."""

import pytest

from dml_bench.errors import RecipeError
from dml_bench.flow import VOCABULARY
from dml_bench.recipe.reader import read_recipe, read_studies

BASE = {"dataset": "digits", "grid": {"loss": ["softtriple", "arcface", "arcface"]}, "seeds": [3, 4]}


def studies(space, **more):
    return read_studies({**BASE, **more, "space": space}, VOCABULARY)


def test_a_setting_is_searched_for_the_losses_that_have_it():
    space = {
        "loss.margin": {"low": 0.0, "high": 0.5},
        "softtriple.centers_per_class": {"low": 2, "high": 20, "step": 2},
        "training.optimizer.lr": {"low": 1e-5, "high": 1e-2, "log": True},
        "arcface.margin": {"choices": [0.1, 0.3]},
    }
    softtriple, arcface = studies(space)
    assert [study.name for study in (softtriple, arcface)] == ["softtriple", "arcface"]
    assert softtriple.seeds == (3, 4)
    found = {dimension.name: dimension for dimension in softtriple.dimensions}
    assert set(found) == {"loss.margin", "loss.centers_per_class", "training.optimizer.lr"}
    assert found["loss.centers_per_class"].whole
    assert not found["loss.margin"].whole
    assert not found["training.optimizer.lr"].whole
    [margin] = [dimension for dimension in arcface.dimensions if dimension.name == "loss.margin"]
    assert margin.choices == (0.1, 0.3)


def test_whole_ends_of_a_fraction_are_a_range_of_fractions():
    [dimension] = studies({"loss.scale": {"low": 8, "high": 64}})[0].dimensions
    assert not dimension.whole


def test_points_of_one_loss_are_studies_of_their_own():
    grid = {"loss": ["softtriple"], "loss.centers_per_class": [2, 5]}
    found = studies({"loss.gamma": {"low": 0.05, "high": 0.5}}, grid=grid)
    assert [study.name for study in found] == ["softtriple-1", "softtriple-2"]
    run = found[1].run({"loss.gamma": 0.25}, VOCABULARY)
    assert (run.recipe.loss["gamma"], run.recipe.loss["centers_per_class"]) == (0.25, 5)


def test_a_space_changes_no_run():
    plain = read_recipe(BASE, VOCABULARY)
    assert plain == read_recipe({**BASE, "space": {"loss.scale": {"low": 1, "high": 64}}}, VOCABULARY)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (None, "space: must map paths to ranges"),
        ({}, "space: must map paths to ranges"),
        ({"loss.margin": 3}, "must be a range or choices, not 3; write"),
        ({"loss.margin": {"low": 0.1, "high": 0.3, "choices": [1]}}, "must be a range or choices"),
        ({"loss.margin": {"choices": []}}, "choices must be a list with at least one value"),
        ({"loss.margin": {"low": 0.5, "high": 0.1}}, "low must be below high, not 0.5 and 0.1"),
        ({"loss.margin": {"low": 0.5}}, "high: must be a number, not null"),
        ({"loss.margin": {"low": 0.0, "high": 0.5, "log": True}}, "with log, low must be above 0"),
        ({"loss.margin": {"low": 0.1, "high": 0.5, "lg": True}}, r"lg: unknown key \(did you mean 'log'"),
        ({"loss.scale": {"low": -1, "high": 64}}, "space.loss.scale.low: scale must be greater than 0"),
        ({"loss.scale": {"choices": [16, "big"]}}, r"space.loss.scale.choices\[1\]: scale must be"),
        ({"loss.margn": {"low": 0.0, "high": 0.5}}, r"'margn' \(did you mean 'margin'"),
        ({"proxy_nca.scale": {"low": 1, "high": 5}}, "'proxy_nca' is no loss of this recipe, which has arcface, soft"),
        ({"training.optimzer.lr": {"low": 0.1, "high": 0.5}}, r"unknown key \(did you mean 'optimizer'"),
        ({"softtriple.gamma": {"low": 0.1, "high": 0.5}}, "leaves nothing to search for arcface"),
        ({"seed": {"low": 1, "high": 5}}, "'seed' cannot be searched"),
        ({"evaluation.metrics": {"choices": [["recall@1"]]}}, "cannot be searched: it would change what is compared"),
    ],
)
def test_mistakes_are_named(space, message):
    with pytest.raises(RecipeError, match=message):
        read_recipe({**BASE, "space": space}, VOCABULARY)


def test_file_and_line_are_named(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        "dataset: digits\nloss: arcface\nspace:\n  loss.margin: {low: 0.0, high: 0.5}\n  loss.x: {low: 1}\n"
    )
    with pytest.raises(RecipeError, match=r"r.yaml:5: space.loss.x.high: must be a number"):
        read_recipe(path, VOCABULARY)


def test_a_recipe_without_a_space_cannot_be_tuned():
    with pytest.raises(RecipeError, match="space: is required"):
        read_studies(BASE, VOCABULARY)
