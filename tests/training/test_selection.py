import numpy as np
import pytest
import torch
from torch import nn

from dml_bench import run
from dml_bench.data.dataset import DATASETS
from dml_bench.data.folds import hold_out
from dml_bench.errors import DataError, RecipeError
from dml_bench.flow import VOCABULARY
from dml_bench.recipe.identity import protocol_id
from dml_bench.recipe.reader import read_recipe
from dml_bench.splits import load_split
from dml_bench.training.selection import Keeper, Selection


class Dial(nn.Module):
    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.zeros(1))


def train(selection, values):
    """Let a network pass through ``values``; return what it ended with and the keeper."""
    dial = Dial()
    keeper = Keeper(selection, [dial], lambda: float(dial.value.detach()))
    seen = []
    for epoch, value in enumerate(values, 1):
        with torch.no_grad():
            dial.value.fill_(value)
        seen.append(keeper.after(epoch))
        if keeper.is_out_of_patience:
            break
    seen.append(keeper.finish())
    return float(dial.value.detach()), keeper, seen


def test_the_first_of_the_best_networks_comes_back():
    value, keeper, seen = train(Selection("recall@1"), [0.1, 0.75, 0.75, 0.5])
    assert value == 0.75 and keeper.best_epoch == 2 and keeper.best == 0.75
    assert seen == [pytest.approx(v, abs=1e-6) for v in (0.1, 0.75, 0.75, 0.5)] + [None]


def test_the_last_epoch_is_measured_whatever_the_pace():
    value, keeper, seen = train(Selection("recall@1", every=2), [0.9, 0.25, 0.3, 0.125, 0.5])
    assert seen == [None, 0.25, None, 0.125, None, 0.5]
    assert value == 0.5 and keeper.best_epoch == 5


def test_patience_counts_measurements_without_a_new_best():
    _, keeper, seen = train(Selection("recall@1", patience=2), [0.5, 0.75, 0.25, 0.5, 0.875])
    assert len(seen) == 5 and keeper.epoch == 4 and keeper.best_epoch == 2
    _, keeper, _ = train(Selection("recall@1", every=2, patience=1), [0, 0.5, 0, 0.25, 0, 0.875])
    assert keeper.epoch == 4


def test_a_measure_that_does_not_exist_is_an_error():
    with pytest.raises(DataError, match="recall@1 of what is selected on is not defined"):
        train(Selection("recall@1"), [float("nan")])


def test_folds_hold_out_every_training_class_once_and_leave_the_test_alone():
    split = DATASETS.build("glyphs", None)
    parts = [hold_out(split, 3, number) for number in (1, 2, 3)]
    held = [set(part.validation.class_names) for part in parts]
    assert set.union(*held) == set(split.train.class_names) and sum(map(len, held)) == split.train.num_classes
    for part in parts:
        assert set(part.train.class_names) == set(split.train.class_names) - set(part.validation.class_names)
        assert part.test is split.test and part.digest == split.digest
        assert len(part.train) + len(part.validation) == len(split.train)


SHORT = {"epochs": 4, "sampler": {"name": "pxk", "classes_per_batch": 2, "images_per_class": 8}}


def recipe(**changes):
    evaluation = {"metrics": ["recall@1", "map@r"], "restarts": 1}
    body = {"dataset": "digits", "loss": "norm_softmax", "training": SHORT, "evaluation": evaluation}
    return {**body, "references": False, **changes}


def test_test_oracle_takes_the_best_test_epoch_and_says_so(tmp_path):
    (record,) = run(recipe(selection="test_oracle"), out=tmp_path / "a", device="cpu")
    assert record.status == "ok", record.reason
    scores = [epoch.score for epoch in record.curve]
    assert len(scores) == 4 and record.metrics["recall@1"] == max(scores) == record.selected["value"]
    assert record.selected["epoch"] == 1 + int(np.argmax(scores))
    (last,) = run(recipe(), out=tmp_path / "b", device="cpu")
    assert last.metrics["recall@1"] == scores[-1] and not last.selected
    assert last.curve[-1].loss == record.curve[-1].loss  # measuring draws nothing
    assert record.protocol_id != last.protocol_id


def test_validation_looks_at_held_out_classes_alone(tmp_path, monkeypatch):
    folds = recipe(selection={"name": "validation", "folds": 2, "metric": "recall@1"}, grid={"selection.fold": [1, 2]})
    records = run(folds, out=tmp_path, device="cpu")
    assert [record.status for record in records] == ["ok", "ok"], records[0].reason
    assert len({record.protocol_id for record in records}) == 1
    assert records[0].options == {"selection.fold": 1}
    sizes = [record.data["validation"]["classes"] + record.data["train"]["classes"] for record in records]
    assert sizes == [load_split(read_recipe(recipe(), VOCABULARY)[0].recipe).train.num_classes] * 2
    curve = (tmp_path / records[0].run_id / "curve.csv").read_text().splitlines()
    assert curve[0].endswith(",score") and len(curve) == 5


def test_a_warm_up_of_the_head_is_not_measured(tmp_path):
    training = {**SHORT, "head_epochs": 2, "schedule": {"name": "plateau", "patience": 0}}
    rule = {"name": "validation", "folds": 2, "metric": "recall@1"}
    (record,) = run(recipe(selection=rule, training=training), out=tmp_path, device="cpu")
    assert record.status == "ok", record.reason
    assert [epoch.score is None for epoch in record.curve] == [True, True, False, False]
    assert record.curve[2].learning_rate == record.curve[0].learning_rate and record.selected["epoch"] > 2


def test_a_subset_is_taken_of_what_is_not_held_out():
    rule = {"name": "validation", "folds": 2}
    shots = {"name": "few_shot", "images_per_class": 5}
    load = [load_split(read_recipe(recipe(selection=rule, subset=s), VOCABULARY)[0].recipe) for s in ([], shots)]
    assert [len(split.validation) for split in load] == [len(load[0].validation)] * 2
    assert load[1].train.class_counts.max() == 5 and load[0].digest != load[1].digest


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        ({"name": "validation", "folds": 4, "fold": 5}, "selection.fold: must be at most folds, 4"),
        ({"name": "validation", "metric": "recal@1"}, "selection.metric: no metric named 'recal@1'"),
        ({"name": "test_oracle", "metric": "eer"}, "selection.metric: eer is not better the higher it is"),
        ("best", "selection: no selections named 'best'"),
    ],
)
def test_rules_that_cannot_be_are_refused(selection, words):
    with pytest.raises(RecipeError) as error:
        read_recipe(recipe(selection=selection), VOCABULARY)
    assert words in str(error.value)


def test_the_rule_is_part_of_the_protocol_but_patience_and_fold_are_not():
    looks = [protocol_id("x", "cosine", {"name": "test_oracle", "metric": "recall@1", "every": n}) for n in (1, 20)]
    assert looks[0] != looks[1]  # the more looks, the more optimistic
    base = {"name": "validation", "metric": "map@r", "folds": 4, "fold": 1, "every": 1, "patience": None}
    ids = [protocol_id("x", "cosine", {**base, **change}) for change in ({}, {"fold": 2}, {"patience": 3})]
    assert len(set(ids)) == 1
    assert protocol_id("x", "cosine", {**base, "metric": "recall@1"}) != ids[0] != protocol_id("x")
    assert protocol_id("x", "cosine", {"name": "last"}) == protocol_id("x")


def test_tables_name_a_test_oracle(tmp_path, capsys):
    from rich.console import Console

    from dml_bench.reports.summary import long_table, summary_table
    from dml_bench.reports.text import print_table, to_markdown

    records = run(recipe(selection="test_oracle"), out=tmp_path, device="cpu")
    print_table(Console(), records)
    assert "on the TEST classes (test_oracle)" in " ".join(capsys.readouterr().out.split())
    assert "on the TEST classes (test_oracle)" in to_markdown(records)
    for table in (long_table(records), summary_table(records)):
        assert table["selection"].str.contains("TEST").all()
