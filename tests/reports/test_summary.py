from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dml_bench.errors import ResultsError
from dml_bench.reports.options import options_text
from dml_bench.reports.summary import LONG_COLUMNS, long_table, natural, sections, summary_table


def test_columns_of_the_summary_are_the_published_ones(make):
    metrics = {"nmi": 0.5, "zeta": 0.1, "recall@10": 0.9, "map@r": 0.4, "nmi_restart_std": 0.01, "recall@2": 0.8}
    metrics |= {"r_precision": 0.45, "alpha": 0.2, "recall@1": 0.7}
    assert list(summary_table([make(metrics=metrics)]).columns) == [
        *("dataset", "protocol_id", "loss", "options", "backbone", "embedding_dim", "seeds"),
        *("recall@1_mean", "recall@1_std", "recall@2_mean", "recall@2_std", "recall@10_mean", "recall@10_std"),
        *("map@r_mean", "map@r_std", "r_precision_mean", "r_precision_std", "nmi_mean", "nmi_std"),
        *("alpha_mean", "alpha_std", "zeta_mean", "zeta_std", "nmi_restart_std_mean", "nmi_restart_std_std"),
        *("train_seconds_mean", "status", "selection"),
    ]


def test_mean_and_sample_standard_deviation_by_hand(make):
    values, seconds = (0.5, 0.6, 0.8), (3.0, 4.0, 8.0)
    runs = [make(seed=s, metrics={"nmi": values[s]}, seconds={"train": seconds[s]}) for s in range(3)]
    (line,) = summary_table(runs).to_dict("records")
    mean = (0.5 + 0.6 + 0.8) / 3
    assert line["nmi_mean"] == pytest.approx(mean, abs=1e-15)
    assert line["nmi_std"] == pytest.approx(math.sqrt(sum((v - mean) ** 2 for v in values) / 2), abs=1e-15)
    assert (line["train_seconds_mean"], line["seeds"], line["status"]) == (5.0, "3", "ok")


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_summary_follows_from_the_long_table(make, values):
    runs = [make(seed=s, metrics={"recall@1": v}) for s, v in enumerate(values)]
    listed = long_table(runs)["value"].tolist()
    (line,) = summary_table(runs).to_dict("records")
    assert listed == values
    assert line["recall@1_mean"] == pytest.approx(sum(listed) / len(listed), abs=1e-12)
    assert line["recall@1_std"] == pytest.approx(statistics.stdev(listed), abs=1e-12)


def test_one_seed_has_no_spread(make):
    (line,) = summary_table([make()]).to_dict("records")
    assert line["recall@1_mean"] == 0.8
    assert math.isnan(line["recall@1_std"])
    assert line["seeds"] == "1"


def test_failed_seeds_are_counted_and_left_out_of_the_mean(make):
    lost = {"status": "failed", "reason": "loss is nan", "metrics": {}, "seconds": {"train": 99.0}}
    runs = [make(seed=0), make(seed=1, metrics={"recall@1": 0.6}), make(seed=2, **lost), make("am_softmax", **lost)]
    partial, failed = summary_table(runs).to_dict("records")
    assert (partial["loss"], partial["seeds"], partial["status"]) == ("arcface", "2 of 3 ok", "partial")
    assert partial["recall@1_mean"] == pytest.approx(0.7)
    assert partial["train_seconds_mean"] == 6.0
    assert (failed["loss"], failed["seeds"], failed["status"]) == ("am_softmax", "0 of 1 ok", "failed")
    assert math.isnan(failed["recall@1_mean"])


def test_long_table_has_a_line_for_a_failed_run(make):
    failed = make(seed=1, status="failed", reason="loss is nan", metrics={})
    table = long_table([failed, make(metrics={"nmi_restart_std": 0.01, "nmi": 0.5, "recall@1": 0.8, "other": 0.1})])
    assert tuple(table.columns) == LONG_COLUMNS
    assert table["metric"].tolist() == ["recall@1", "nmi", "nmi_restart_std", "other", ""]
    last = table.iloc[-1]
    assert (last["seed"], last["status"], last["reason"]) == (1, "failed", "loss is nan")
    assert math.isnan(last["value"])


def test_rows_are_ranked_by_first_recall_and_references_stand_last(make):
    values = {"untrained": 0.95, "arcface": 0.7, "raw_pixels": 0.1, "softtriple": 0.9, "am_softmax": 0.8}
    runs = [make(loss, metrics={"recall@1": v, "nmi": 1 - v}) for loss, v in values.items()]
    runs.append(make("broken", status="failed", metrics={}))
    order = summary_table(runs)["loss"].tolist()
    assert order == ["softtriple", "am_softmax", "arcface", "broken", "raw_pixels", "untrained"]


def test_other_protocols_and_data_sets_are_other_sections(make):
    runs = [make(), make("softtriple", protocol_id="p1"), make("softtriple", dataset="digits")]
    found = [(s.dataset, s.protocol_id, [row.loss for row in s.rows]) for s in sections(runs)]
    assert found == [
        ("digits", "p0", ["softtriple"]),
        ("glyphs", "p0", ["arcface"]),
        ("glyphs", "p1", ["softtriple"]),
    ]


def test_recipes_that_look_alike_are_told_apart_by_their_id(make):
    runs = [make(recipe_id="a1"), make(recipe_id="b2"), make(recipe_id="c3", options={"scale": 30.0})]
    assert sorted(summary_table(runs)["options"]) == ["recipe=a1", "recipe=b2", "scale=30"]


def test_a_default_is_named_where_another_row_of_the_loss_has_something_else(make):
    def run(options, k, weight):
        recipe = {"loss": {"name": "softtriple", "centers_per_class": k, "weight": weight}, "training": {"epochs": 3}}
        return make("softtriple", options=options, recipe=recipe, recipe_id=f"{k}{weight}{options}")

    runs = [run({"weight": 2.0}, 10, 2.0), run({"centers_per_class": 5, "weight": 0.0}, 5, 0.0)]
    runs += [make("arcface"), run({"training.epochs": 9}, 10, 0.2)]
    assert {row.options for section in sections(runs) for row in section.rows} == {
        "centers_per_class=10, weight=2, training.epochs=3",
        "centers_per_class=5, weight=0, training.epochs=3",
        "centers_per_class=10, weight=0.2, training.epochs=9",
        "",
    }


def test_backbone_and_dimension_make_rows_of_their_own(make):
    runs = [make(recipe_id=str(d), embedding_dim=d) for d in (64, 128)] + [make(recipe_id="r", backbone="resnet")]
    assert sorted(zip(*(summary_table(runs)[c] for c in ("backbone", "embedding_dim")), strict=True)) == [
        ("convnet", 64),
        ("convnet", 128),
        ("resnet", 64),
    ]


def test_a_copy_of_a_run_counts_once(make):
    (line,) = summary_table([make(), make(), make(seed=1)]).to_dict("records")
    assert line["seeds"] == "2"


def test_two_different_records_of_one_run_are_refused(make):
    with pytest.raises(ResultsError, match=r"run id_arcface_-s0 of 'quickstart' is there twice"):
        summary_table([make(), make(metrics={"recall@1": 0.1})])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, ""),
        ({"scale": 30.0, "training.epochs": 5}, "scale=30, training.epochs=5"),
        ({"lr": 1e-05, "gamma": 0.1, "bias": True, "beta": None}, "lr=1e-05, gamma=0.1, bias=true, beta=null"),
        ({"margins": [0.1, 2.0], "annealing": {"base": 1000.0}}, "margins=[0.1, 2], annealing={base: 1000}"),
        ({"form": "linear"}, "form=linear"),
    ],
)
def test_options_are_written_short(options, text):
    assert options_text(options) == text


def test_natural_order_counts():
    assert sorted(["K=10", "K=2", "", "K=1.5"], key=natural) == ["", "K=1.5", "K=2", "K=10"]


def test_many_records_are_summarised(make):
    metrics = {f"recall@{k}": 0.5 for k in (1, 2, 4, 8)} | {"nmi": 0.5, "map@r": 0.3}
    runs = [make(f"loss{i}", seed, metrics=metrics) for i in range(100) for seed in range(5)]
    assert len(summary_table(runs)) == 100
    assert len(long_table(runs)) == 3000
