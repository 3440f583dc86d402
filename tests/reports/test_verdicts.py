from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dml_bench.reports.ledger import UNKNOWN, Figure
from dml_bench.reports.reported import reported_tables
from dml_bench.reports.verdicts import WIDEST, Ours, compare, compare_with_reported, conditions_of

SAME = {"backbone": "bn_inception", "dim": "64", "batch": "32", "crop": "224", "selection": "last", "split": "test"}
FIGURE = Figure(
    task="retrieval", dataset="cub200", method="SoftTriple", loss="softtriple", **SAME, metric="recall@1",
    value="60.1", second_hand=False, setting="", conditions="a paper", source="a paper, table 1",
)  # fmt: skip
OURS = Ours("cub200", "softtriple", "recall@1", 0.602, 0.598, 0.606, 0.004, 5, SAME)


def test_equal_conditions_and_a_figure_in_the_interval_are_a_reproduction():
    comparison = compare(OURS, FIGURE)
    assert comparison.verdict == "reproduced"
    assert comparison.deviation == pytest.approx(0.001)
    assert comparison.z == pytest.approx(0.001 / (0.004 / stats.norm.ppf(0.975)))


@pytest.mark.parametrize("value, verdict", [("61.0", "below"), ("59.0", "above"), ("60.6", "reproduced")])
def test_a_figure_outside_of_the_interval(value, verdict):
    assert compare(OURS, replace(FIGURE, value=value)).verdict == verdict


@pytest.mark.parametrize("name", ["backbone", "dim", "batch", "crop", "selection"])
def test_an_unknown_condition_is_never_a_reproduction(name):
    comparison = compare(OURS, replace(FIGURE, **{name: UNKNOWN}))
    assert comparison.verdict == f"consistent ({name} unknown)"
    assert compare(replace(OURS, conditions=SAME | {name: UNKNOWN}), FIGURE).verdict == comparison.verdict


def test_conditions_that_differ_are_named_whatever_the_numbers():
    for value in ("60.1", "10.0"):
        verdict = compare(OURS, replace(FIGURE, value=value, dim="512", crop="227")).verdict
        assert verdict == "conditions differ (dim 64 not 512, crop 224 not 227)"
    partial = compare(replace(OURS, conditions=SAME | {"data": "partial"}), FIGURE)
    assert partial.verdict == "conditions differ (data partial)"
    assert "split test not validation" in compare(OURS, replace(FIGURE, split="validation")).verdict


def test_a_setting_and_random_weights_are_unknown_conditions():
    assert compare(OURS, replace(FIGURE, setting="starred")).verdict == "consistent (setting: starred unknown)"
    assert (
        compare(replace(OURS, conditions=SAME | {"weights": UNKNOWN}), FIGURE).verdict == "consistent (weights unknown)"
    )


def test_one_seed_allows_no_claim():
    single = replace(OURS, low=math.nan, high=math.nan, half=math.nan, seeds=1)
    assert compare(single, FIGURE).verdict == "n=1, no claim"
    assert math.isnan(compare(single, FIGURE).z)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"low": 0.0, "high": 1.0, "half": 1.9, "seeds": 2}, "± 190.0"),
        ({"low": 0.55, "high": 0.654, "half": 0.052}, "± 5.2"),
    ],
)
def test_an_interval_that_proves_nothing_is_no_reproduction(changes, why):
    uncertain = replace(OURS, **changes)
    assert compare(uncertain, FIGURE).verdict == f"too uncertain ({why})"
    assert compare(uncertain, replace(FIGURE, batch=UNKNOWN)).verdict == f"too uncertain ({why}, batch unknown)"
    assert compare(uncertain, replace(FIGURE, value="0.0")).verdict in ("above", f"too uncertain ({why})")


def test_z_goes_by_the_interval_before_it_was_cut():
    near = replace(OURS, mean=0.99, low=0.97, high=1.0, half=0.02)
    assert compare(near, replace(FIGURE, value="98.0")).z == pytest.approx(0.01 / 0.02 * stats.norm.ppf(0.975))


@given(
    st.floats(0, 1), st.floats(0, 0.2), st.integers(1, 999),
    st.dictionaries(st.sampled_from(sorted(SAME)), st.sampled_from([UNKNOWN, "other"])),
)  # fmt: skip
def test_a_verdict_follows_from_conditions_and_interval(mean, half, value, changes):
    figure = replace(FIGURE, value=f"{value / 10:.1f}", **changes)
    comparison = compare(replace(OURS, mean=mean, low=mean - half, high=mean + half, half=half, seeds=3), figure)
    if "other" in changes.values():
        assert comparison.verdict.startswith("conditions differ")
    elif UNKNOWN in changes.values():
        assert "unknown" in comparison.verdict and "reproduced" not in comparison.verdict
    else:
        assert comparison.verdict in ("reproduced", "below", "above") or half > WIDEST
    assert (abs(comparison.deviation) > half + 1e-8) <= (abs(comparison.z) > 1.95)


def test_only_figures_of_the_same_data_loss_and_metric_are_compared():
    others = [replace(FIGURE, dataset="cars196"), replace(FIGURE, loss="arcface"), replace(FIGURE, metric="nmi")]
    far = replace(FIGURE, dim="512", crop=UNKNOWN)
    assert [c.figure for c in compare_with_reported([OURS], [far, *others, FIGURE])] == [FIGURE, far]


def published(make, **changes):
    """A run under the conditions of the paper."""
    recipe = {
        "dataset": {"name": "cub200", "image_size": 224, "resize": 256, "partial": False},
        "training": {"sampler": {"name": "random", "batch_size": 32}},
        "selection": {"name": "last"},
    }
    data = {"train": {"images": 5864, "classes": 100}, "test": {"images": 5924, "classes": 100}, "digest": "d"}
    values = {"dataset": "cub200", "backbone": "bn_inception", "weights": "sha", "recipe": recipe, "data": data}
    return make(**({"loss": "softtriple"} | values | changes))


def test_conditions_come_from_the_record(make):
    run = published(make)
    assert conditions_of(run) == SAME
    pxk = {"sampler": {"name": "pxk", "classes_per_batch": 8, "images_per_class": 4}}
    assert conditions_of(replace(run, recipe=run.recipe | {"training": pxk}))["batch"] == "32"
    assert conditions_of(replace(run, weights=""))["weights"] == UNKNOWN
    partial = run.recipe | {"dataset": run.recipe["dataset"] | {"partial": True}}
    assert conditions_of(replace(run, recipe=partial))["data"] == "partial"
    fewer = run.data | {"test": {"images": 5000, "classes": 100}}
    assert conditions_of(replace(run, data=fewer))["data"] == "not the whole data set"
    folds = run.data | {"train": {"images": 4000, "classes": 75}, "validation": {"images": 1864, "classes": 25}}
    assert "data" not in conditions_of(replace(run, data=folds))
    tail = run.recipe | {"subset": [{"name": "long_tail"}]}
    assert conditions_of(replace(run, recipe=tail))["data"] == "subset long_tail"


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("color", "grey", "color grey"),
        ("boxes", True, "boxes"),
        ("split", "official_closed", "split official_closed"),
        ("option_to_come", 3, "option_to_come 3"),
    ],
)
def test_an_option_of_the_data_that_is_not_the_usual_is_named(make, option, value, said):
    run = published(make)
    odd = replace(run, recipe=run.recipe | {"dataset": run.recipe["dataset"] | {option: value}})
    assert conditions_of(odd)["data"] == said
    assert compare(replace(OURS, conditions=conditions_of(odd)), FIGURE).verdict == f"conditions differ (data {said})"


@pytest.mark.parametrize(("option", "value", "said"), [("square", True, "square"), ("resize", 400, "resize 400")])
def test_an_unusual_option_that_no_figure_states_is_unknown(make, option, value, said):
    run = published(make)
    odd = replace(run, recipe=run.recipe | {"dataset": run.recipe["dataset"] | {option: value}})
    assert "data" not in conditions_of(odd)
    assert compare(replace(OURS, conditions=conditions_of(odd)), FIGURE).verdict == f"consistent ({said} unknown)"


@pytest.mark.parametrize("name", ["cub200", "cars196", "sop", "inshop", "lfw", "mnist"])
def test_the_defaults_of_data_sets_in_the_ledger_are_the_usual(make, name):
    from dml_bench.data.dataset import DATASETS

    options = {option.name: option.default for option in DATASETS[name].options}
    assert "data" not in conditions_of(make(dataset="other", recipe={"dataset": {"name": name, **options}}))


def test_a_report_sets_our_rows_beside_the_ledger(make):
    runs = [published(make, seed=seed, metrics={"recall@1": value}) for seed, value in enumerate((0.599, 0.602, 0.603))]
    tables = reported_tables(runs)
    rows = list(csv.DictReader(io.StringIO(tables["reported.csv"])))
    own = next(row for row in rows if row["source"].startswith("SoftTriple paper") and row["reported"] == "60.1")
    assert own["verdict"] == "reproduced"
    assert float(own["deviation"]) == pytest.approx(100 * np.mean([0.599, 0.602, 0.603]) - 60.1, abs=1e-3)
    assert {row["verdict"] for row in rows if row["dim"] == "512"} == {"conditions differ (dim 64 not 512)"}
    assert all(row["recipe_id"] and row["protocol_id"] for row in rows)
    assert "| reproduced | SoftTriple |" in tables["reported.md"]


def test_names_with_marks_stay_in_their_cells(make):
    runs = [published(make, seed=s, options={"a|b<c>": "_x_ & *ü*"}) for s in (0, 1)]
    tables = reported_tables(runs)
    lines = [line for line in tables["reported.md"].splitlines() if line.startswith("| softtriple")]
    assert lines
    assert {line.replace("\\|", "").count("|") for line in lines} == {10}
    assert all("a\\|b&lt;c>=\\_x\\_ &amp; \\*ü\\*" in line for line in lines)
    assert {row["options"] for row in csv.DictReader(io.StringIO(tables["reported.csv"]))} == {"a|b<c>=_x_ & *ü*"}


def test_a_loss_without_figures_is_named(make):
    tables = reported_tables([published(make, loss="quintuplet", seed=s) for s in (0, 1)])
    assert "no figure of quintuplet" in tables["reported.md"]
    assert len(tables["reported.csv"].splitlines()) == 1
