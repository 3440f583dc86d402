"""``subset`` in a recipe: one, several in a row, and mistakes with their line."""

import pytest

from dml_bench.errors import RecipeError
from dml_bench.flow import VOCABULARY
from dml_bench.recipe.reader import read_recipe, write_recipe
from dml_bench.splits import load_split

HEAD = "dataset: digits\nloss: norm_softmax\n"


def read(tmp_path, text):
    path = tmp_path / "test.yaml"
    path.write_text(HEAD + text, encoding="utf-8")
    return read_recipe(path, VOCABULARY)[0]


ONE = {"name": "long_tail", "factor": 10.0, "seed": 0}
TWO = {"name": "label_noise", "rate": 0.2, "seed": 3}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("subset: []\n", []),
        ("subset: {name: long_tail, factor: 10}\n", [ONE]),
        ("subset: [{name: long_tail, factor: 10}]\n", [ONE]),
        ("subset:\n  - {name: long_tail, factor: 10}\n  - {name: label_noise, rate: 0.2, seed: 3}\n", [ONE, TWO]),
    ],
)
def test_none_one_and_several(tmp_path, text, expected):
    assert read(tmp_path, text).recipe.subset == expected


def test_the_order_counts(tmp_path):
    items = ("  - {name: few_shot, images_per_class: 9}\n", "  - {name: class_fraction, fraction: 0.8}\n")
    runs = [read(tmp_path, "subset:\n" + "".join(order)) for order in (items, items[::-1])]
    assert runs[0].recipe_id != runs[1].recipe_id
    sets = [load_split(run.recipe) for run in runs]
    assert {len(split.train) for split in sets} == {4 * 9}
    assert sets[0].test.digest == sets[1].test.digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subset: long_tale\n", "test.yaml:3: subset: no subsets named 'long_tale' (did you mean 'long_tail'?)"),
        ("subset: long_tail\n", "test.yaml:3: subset.factor: is required"),
        ("subset:\n  name: long_tail\n  factr: 10\n", "test.yaml:5: subset.factr: 'long_tail' has no option 'factr'"),
        (
            "subset:\n  - few_shot\n  - {name: long_tail, factor: 0.5}\n",
            "test.yaml:5: subset[1].factor: must be greater",
        ),
        ("subset:\n  - {factor: 10}\n", "test.yaml:4: subset[0]: needs a name"),
        ("subset: 7\n", "test.yaml:3: subset"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, text, message):
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, text)
    lines = str(caught.value).replace(f"{tmp_path}/", "").splitlines()
    assert any(line.startswith(message) for line in lines), lines


def test_what_is_written_reads_the_same(tmp_path):
    run = read(tmp_path, "subset: [{name: long_tail, factor: 10}, {name: label_noise, rate: 0.2}]\n")
    (tmp_path / "again.yaml").write_text(write_recipe(run.recipe), encoding="utf-8")
    assert read_recipe(tmp_path / "again.yaml", VOCABULARY)[0].recipe_id == run.recipe_id
