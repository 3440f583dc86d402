import pytest
from hypothesis import given
from hypothesis import strategies as st

from dml_bench.errors import RecipeError
from dml_bench.flow import VOCABULARY
from dml_bench.recipe.identity import protocol_id, recipe_id
from dml_bench.recipe.reader import read_recipe, write_recipe

MINIMAL = {"dataset": "digits", "loss": "norm_softmax"}


def read(text, tmp_path, changes=()):
    path = tmp_path / "test.yaml"
    path.write_text(text, encoding="utf-8")
    return read_recipe(path, VOCABULARY, changes)


def mistakes(text, tmp_path, changes=()):
    with pytest.raises(RecipeError) as caught:
        read(text, tmp_path, changes)
    return str(caught.value).replace(str(tmp_path) + "/", "").splitlines()


def test_defaults_are_spelt_out():
    (run, *_) = read_recipe(MINIMAL, VOCABULARY)
    assert run.recipe.loss == {"name": "norm_softmax", "scale": 20.0, "learn_scale": False, "init": "unit"}
    assert run.recipe.training.sampler == {"name": "pxk", "classes_per_batch": 16, "images_per_class": 4}


def test_references_come_last_and_once():
    recipe = {
        "dataset": "digits",
        "seeds": [3, 4],
        "grid": {"loss": ["norm_softmax", "proxy_nca"], "training.epochs": [1, 2]},
    }
    runs = read_recipe(recipe, VOCABULARY)
    assert [run.method for run in runs[8:]] == ["untrained", "untrained", "raw_pixels"]
    assert [run.recipe.seed for run in runs[8:]] == [3, 4, 3]
    assert len(read_recipe({**recipe, "references": False}, VOCABULARY)) == 8


def test_every_mistake_is_reported_with_its_line(tmp_path):
    text = """dataset: {name: glyfs}
training:
  epochs: 0
  sampler: {name: pxk, classes: 5}
embedding: {dims: 3}
evaluation: {metrics: [recal@1]}
grid:
  loss:
    - softtriple
    - {name: arcface, margn: 0.5}
    - name: softripple
"""
    found = mistakes(text, tmp_path)
    assert len(found) == 7
    starts = [
        ("test.yaml:5: embedding.dims: unknown key (did you mean 'dim'?)"),
        ("test.yaml:3: training.epochs: must be greater than or equal to 1, not 0"),
        ("test.yaml:1: dataset.name: no datasets named 'glyfs' (did you mean 'glyphs'?)"),
        ("test.yaml:4: training.sampler.classes: 'pxk' has no option 'classes'"),
        ("test.yaml:10: grid.loss[1].margn: 'arcface' has no option 'margn' (did you mean 'margin'?)"),
        ("test.yaml:6: evaluation.metrics[0]: "),
        ("test.yaml:11: grid.loss[2].name: no losses named 'softripple' (did you mean 'softtriple'?)"),
    ]
    for start in starts:
        assert any(line.startswith(start) for line in found), (start, found)


def test_metric_names_are_checked(tmp_path):
    (found,) = mistakes("dataset: digits\nloss: norm_softmax\nevaluation:\n  metrics: [nmi,\n    recal@1]\n", tmp_path)
    assert found.startswith("test.yaml:5: evaluation.metrics[1]: ")
    assert "recall@" in found


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("dataset: digits\ndataset: glyphs\n", "test.yaml:2: not valid YAML: found duplicate key"),
        ("dataset: [digits\n", "test.yaml:2: not valid YAML"),
        ("- digits\n", "test.yaml: a recipe is a mapping"),
        ("", "test.yaml: a recipe is a mapping"),
        ("loss: norm_softmax\n", "test.yaml: dataset: is required"),
        ("dataset: digits\nloss: norm_softmax\nseeds: 3\n", "test.yaml:3: seeds: must be a list"),
        ("dataset: digits\nloss: norm_softmax\nseeds: [0]\nseed: 1\n", "test.yaml:3: seeds: is given beside seed"),
        ("dataset: digits\nloss: norm_softmax\ngrid: {loss: arcface}\n", "test.yaml:3: grid.loss: must be a list"),
        ("dataset: digits\nloss: {scale: 3}\n", "test.yaml:2: loss: needs a name"),
        ("dataset: digits\nloss: norm_softmax\nname: ../x\n", "test.yaml:3: name: "),
        ("dataset: digits\nloss: norm_softmax\ngrid: []\n", "test.yaml:3: grid: must map paths"),
        ("dataset: digits\nloss: norm_softmax\ngrid: {name: [a]}\n", "test.yaml:3: grid.name: 'name' changes no run"),
        ("dataset: digits\nloss: norm_softmax\ntraining: null\n", "test.yaml: training must not be null beside a loss"),
        (
            "dataset: digits\nloss: norm_softmax\ntraining: {epochs: 2, warmup_epochs: 3}\n",
            "test.yaml:3: training: warmup_epochs, 3, must be at most epochs, 2",
        ),
        ("dataset: digits\nloss: norm_softmax\nreferences: 1\n", "test.yaml:3: references: must be true or false"),
    ],
)
def test_wrong_files_say_where(text, start, tmp_path):
    assert mistakes(text, tmp_path)[0].startswith(start)


def test_yaml_is_read_as_1_2(tmp_path):
    text = "dataset: digits\nloss: norm_softmax\ndescription: no\ntraining: {optimizer: {name: adamw, lr: 1e-5}}\n"
    recipe = read(text, tmp_path)[0].recipe
    assert recipe.description == "no"
    assert recipe.training.optimizer["lr"] == 1e-5


def test_mistakes_beside_a_broken_grid_are_reported_too(tmp_path):
    found = mistakes("dataset: glyfs\nseeds: 0\ntraining: {epochs: 1.5}\n", tmp_path)
    assert [line.split(": ")[1] for line in found] == ["seeds", "training.epochs", "dataset"]


def test_every_wrong_set_is_reported(tmp_path):
    found = mistakes("dataset: digits\nloss: norm_softmax\n", tmp_path, ["a", "b=["])
    assert [line[:7] for line in found] == ["--set a", "--set b"]


def test_anchors_keep_their_kind(tmp_path):
    text = "dataset: digits\nloss: norm_softmax\nembedding: {dim: &d 8, layer_norm: &t true}\n"
    assert read(text, tmp_path)[0].recipe.embedding.layer_norm is True


def test_any_file_name_makes_a_name(tmp_path):
    path = tmp_path / "my recipe (2).yaml"
    path.write_text("dataset: digits\nloss: norm_softmax\n")
    assert read_recipe(path, VOCABULARY)[0].recipe.name == "my_recipe__2_"


def test_missing_file_is_named(tmp_path):
    with pytest.raises(RecipeError, match="nowhere.yaml: cannot read the recipe: No such file"):
        read_recipe(tmp_path / "nowhere.yaml", VOCABULARY)


def test_set_overrules_the_recipe(tmp_path):
    runs = read("dataset: digits\nloss: softtriple\n", tmp_path, ["loss.gamma=0.2", "seeds=[5]", "training.epochs=3"])
    assert (runs[0].recipe.loss["gamma"], runs[0].recipe.seed, runs[0].recipe.training.epochs) == (0.2, 5, 3)


def test_set_reaches_axes_of_the_grid(tmp_path):
    text = "dataset: digits\nloss: softtriple\ngrid: {training.epochs: [1, 2]}\n"
    runs = read(text, tmp_path, ["grid.training.epochs=[7]"])
    assert [run.recipe.training.epochs for run in runs if run.recipe.loss] == [7]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("training.epochs", "write it as path=value"),
        ("training.epochs=[", "not valid YAML"),
        ("training.epochs=0", "--set training.epochs=0: training.epochs: must be greater"),
        ("seed.x=1", "has no parts to set"),
        ("training.threads=4", "'training.threads' is an axis of the grid"),
    ],
)
def test_wrong_set_is_an_error(change, words, tmp_path):
    text = "dataset: digits\nloss: softtriple\nseed: 0\ngrid: {training.threads: [1]}\n"
    assert words in "\n".join(mistakes(text, tmp_path, [change]))


def test_one_option_of_a_default_choice_can_be_set(tmp_path):
    recipe = read("dataset: digits\nloss: softtriple\n", tmp_path, ["training.optimizer.lr=0.5"])[0].recipe
    assert (recipe.training.optimizer["name"], recipe.training.optimizer["lr"]) == ("adamw", 0.5)


def test_a_choice_that_the_grid_would_replace_is_an_error(tmp_path):
    text = "dataset: digits\nloss: {name: softtriple, gamma: 0.1}\ngrid:\n  loss: [norm_softmax]\n"
    assert mistakes(text, tmp_path) == [
        "test.yaml:4: grid.loss: 'loss' is given outside the grid as well; give it in one place"
    ]


def test_an_axis_overrules_a_single_value():
    recipe = {**MINIMAL, "embedding": {"dim": 64, "layer_norm": True}, "grid": {"embedding.dim": [8, 16]}}
    runs = read_recipe({**recipe, "references": False}, VOCABULARY)
    assert [(run.recipe.embedding.dim, run.recipe.embedding.layer_norm) for run in runs] == [(8, True), (16, True)]


def test_an_option_axis_applies_to_a_loss_axis_in_any_order():
    grid = {"loss.scale": [5], "loss": ["norm_softmax", {"name": "arcface"}]}
    runs = read_recipe({"dataset": "digits", "grid": grid, "references": False}, VOCABULARY)
    assert [(run.method, run.recipe.loss["scale"]) for run in runs] == [("norm_softmax", 5.0), ("arcface", 5.0)]


def test_grid_blocks_are_joined_and_duplicates_dropped():
    grid = [{"loss": ["norm_softmax", "proxy_nca"]}, {"loss": [{"name": "norm_softmax", "scale": 20}, "softtriple"]}]
    runs = read_recipe({"dataset": "digits", "grid": grid, "references": False}, VOCABULARY)
    assert [run.method for run in runs] == ["norm_softmax", "proxy_nca", "softtriple"]


def test_options_are_what_differs_from_the_default_and_the_axes():
    grid = {"loss": [{"name": "softtriple", "gamma": 0.1, "scale": 30}], "training.epochs": [3]}
    (run, *_) = read_recipe({"dataset": "digits", "grid": grid}, VOCABULARY)
    assert run.options == {"scale": 30.0, "training.epochs": 3}


def test_a_written_recipe_reads_back_as_the_same_run(tmp_path):
    (run, *_) = read_recipe({**MINIMAL, "seed": 7}, VOCABULARY)
    (again,) = read(write_recipe(run.recipe), tmp_path)
    assert again.run_id == run.run_id


@given(st.permutations(["dataset", "loss", "training", "seed"]))
def test_order_and_spelt_out_defaults_do_not_change_the_id(keys):
    full = {**MINIMAL, "training": {"precision": "fp32", "epochs": 10}, "seed": 0}
    shuffled = read_recipe({key: full[key] for key in keys}, VOCABULARY)
    assert shuffled[0].run_id == read_recipe(MINIMAL, VOCABULARY)[0].run_id


@pytest.mark.parametrize(
    "change",
    [
        "training.precision=bf16",
        "training.threads=2",
        "embedding.dim=32",
        "loss.scale=21",
        "evaluation.distance=euclidean",
    ],
)
def test_what_changes_digits_changes_the_id(change):
    assert read_recipe(MINIMAL, VOCABULARY, [change])[0].recipe_id != read_recipe(MINIMAL, VOCABULARY)[0].recipe_id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("evaluation.metrics=[nmi, recall@1]", "evaluation.metrics=[recall@1, nmi, nmi]"),
        ("training.optimizer.weight_decay=0.0", "training.optimizer.weight_decay=-0.0"),
        ("loss.scale=20", "loss.scale=20.0"),
    ],
)
def test_what_means_the_same_has_the_same_id(one, other):
    first, second = (read_recipe(MINIMAL, VOCABULARY, [change])[0] for change in (one, other))
    assert first.recipe_id == second.recipe_id


@pytest.mark.parametrize("change", ["seed=3", "name=other", "data_root=/data", "description=words"])
def test_what_changes_no_digit_leaves_the_id(change):
    assert read_recipe(MINIMAL, VOCABULARY, [change])[0].recipe_id == read_recipe(MINIMAL, VOCABULARY)[0].recipe_id


def test_the_default_distance_leaves_ids_as_they_were():
    document = read_recipe(MINIMAL, VOCABULARY)[0].recipe.document()
    assert document["evaluation"].pop("distance") == "cosine"
    assert recipe_id(document) == read_recipe(MINIMAL, VOCABULARY)[0].recipe_id


def test_distances_are_protocols_of_their_own():
    assert protocol_id("digest") == protocol_id("digest", "cosine") != protocol_id("digest", "euclidean")


def test_choices_that_do_not_fit_each_other_are_refused(tmp_path):
    text = "dataset: digits\nbackbone: {name: convnet}\nloss: uncertainty_softmax\n"
    (found,) = mistakes(text, tmp_path)
    assert found.startswith("test.yaml:2: backbone.dropout: must be > 0 for uncertainty_softmax")
    assert read(text, tmp_path, ["backbone.dropout=0.2"])


def test_a_choice_of_centers_that_came_later_leaves_old_ids_alone():
    from dml_bench.recipe.identity import recipe_id

    (run,) = read_recipe({"dataset": "digits", "loss": "norm_softmax", "references": False}, VOCABULARY)
    document = run.recipe.document()
    old = {**document, "loss": {key: value for key, value in document["loss"].items() if key != "init"}}
    new = {**document, "loss": {**document["loss"], "init": "official"}}
    assert recipe_id(old) == run.recipe_id != recipe_id(new)
