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


@pytest.mark.parametrize(
    ("name", "low", "high"), [("training.ema", 0.999, 0.9999), ("training.ema", 0.5, 0.5005), ("loss.margin", 0, 1)]
)
def test_a_fraction_is_no_whole_number_however_narrow_its_range(name, low, high):
    [dimension] = studies({name: {"low": low, "high": high}})[0].dimensions
    assert not dimension.whole


def test_a_whole_number_is_seen_as_one():
    [dimension] = studies({"training.epochs": {"low": 2, "high": 3}})[0].dimensions
    assert dimension.whole


def test_a_loss_whose_name_has_dots_can_be_named():
    grid = {"loss": ["pml.TripletMarginLoss", "arcface"]}
    space = {"pml.TripletMarginLoss.margin": {"low": 0.01, "high": 0.3}, "loss.margin": {"low": 0.0, "high": 0.5}}
    found = {study.name: study.dimensions for study in studies(space, grid=grid)}
    assert [(d.name, d.high) for d in found["pml.TripletMarginLoss"]] == [("loss.margin", 0.3)]
    assert [(d.name, d.high) for d in found["arcface"]] == [("loss.margin", 0.5)]


def test_a_whole_is_set_before_its_parts():
    lr = {"low": 1e-4, "high": 1e-1}
    study = studies({"training.optimizer.lr": lr, "training.optimizer": {"choices": ["adam", "sgd"]}})[0]
    run = study.run({"training.optimizer.lr": 0.05, "training.optimizer": "sgd"}, VOCABULARY)
    assert run.recipe.training.optimizer == {**run.recipe.training.optimizer, "name": "sgd", "lr": 0.05}


def test_a_seed_that_is_given_twice_counts_once():
    grid = [{"loss": ["arcface"], "seed": [0, 1]}, {"loss": ["arcface"], "seed": [1]}]
    recipe = {"dataset": "digits", "grid": grid, "space": {"loss.margin": {"low": 0.0, "high": 0.5}}}
    [study] = read_studies(recipe, VOCABULARY)
    assert study.seeds == (0, 1)


@pytest.mark.parametrize(
    ("change", "ends"),
    [
        ("space.loss.margin={low: 0.1, high: 0.2}", (0.1, 0.2)),
        ("space.loss.margin.low=0.1", (0.1, 0.5)),
        ("space={loss.margin: {low: 0.2, high: 0.3}}", (0.2, 0.3)),
    ],
)
def test_the_space_can_be_set_from_the_command_line(change, ends):
    recipe = {"dataset": "digits", "loss": "arcface", "space": {"loss.margin": {"low": 0.0, "high": 0.5}}}
    [dimension] = read_studies(recipe, VOCABULARY, [change])[0].dimensions
    assert (dimension.low, dimension.high) == ends


@pytest.mark.parametrize(
    ("axis", "values", "key", "what"),
    [
        ("loss.margin", [0.1, 0.2], "loss.margin", {"low": 0.0, "high": 0.5}),
        ("training.optimizer.lr", [0.1, 0.2], "training.optimizer", {"choices": ["adam", "sgd"]}),
    ],
)
def test_an_axis_of_the_grid_is_not_searched_over(axis, values, key, what):
    with pytest.raises(RecipeError, match=f"space.{key}: would overrule '{axis}', an axis of the grid"):
        studies({key: what}, grid={"loss": ["arcface"], axis: values})


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
        (
            {"training.epochs": {"low": 2, "high": 5, "step": 0.5}},
            "step: must be a whole number, as training.epochs is",
        ),
        ({"loss": {"choices": ["arcface"]}}, "'loss' cannot be searched"),
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
