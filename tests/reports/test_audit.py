"""Every check is shown runs that have the fault and runs that lack it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dml_bench.reports.audit import DataNow, audit
from dml_bench.reports.falling import last_fall
from dml_bench.results.record import Epoch

RECIPE = {
    "dataset": {"name": "glyphs", "image_size": 32},
    "training": {"epochs": 10, "sampler": {"name": "random", "batch_size": 64}},
    "selection": {"name": "last"},
}
DATA = {"digest": "d", "image_shape": [32, 32, 1]}
CHECKS = {"centers": 100, "centers_still": 0, "kmeans_unconverged": 0}


def grid(make, losses=("arcface", "softtriple"), seeds=(0, 1, 2), **changes):
    """Runs without a fault, but for the changes to those of the first loss."""
    values = {"recipe": RECIPE, "data": DATA, "checks": CHECKS, "recipe_name": "g"}
    return [make(loss, seed, **(values | (changes if loss == losses[0] else {}))) for loss in losses for seed in seeds]


def found(runs, look=None):
    return {(f.severity, f.check): f for f in audit(runs, look) if f.check != "not-checked"}


def with_recipe(part, **changes):
    return RECIPE | {part: RECIPE[part] | changes}


def test_nothing_is_wrong_with_a_fair_grid(make):
    assert found(grid(make)) == {}
    assert {f.message for f in audit(grid(make))} == {"data: nobody looked at it"}


def test_references_need_no_seeds_and_no_budget(make):
    raw = make("raw_pixels", recipe={"training": None}, data=DATA, checks=CHECKS, backbone="pixels", embedding_dim=256)
    assert found([*grid(make), raw]) == {}


@pytest.mark.parametrize("changes, key, words", [
    ({"recipe": with_recipe("selection", name="test_oracle", metric="nmi")}, ("error", "selected-on-test"), "TEST"),
    ({"recipe": with_recipe("training", epochs=20)}, ("warning", "budgets"), "20 epochs, batches of 64 (arcface)"),
    ({"recipe": with_recipe("training", epochs=None, steps=9)}, ("warning", "budgets"), "9 steps"),
    ({"recipe": with_recipe("training", sampler={"name": "random", "batch_size": 8})}, ("warning", "budgets"), "of 8"),
    ({"recipe": RECIPE | {"tuning": {"trials": 50}}}, ("warning", "budgets"), "50 trials (arcface); none (softtriple)"),
    ({"embedding_dim": 512}, ("warning", "dimensions"), "512 (arcface); 64 (softtriple)"),
    ({"backbone": "resnet50"}, ("warning", "backbones"), "resnet50, random weights (arcface)"),
    ({"weights": "sha"}, ("warning", "backbones"), "convnet (arcface); convnet, random weights (softtriple)"),
    ({"recipe": with_recipe("dataset", image_size=64), "protocol_id": "p1"}, ("warning", "resolutions"), "64 pixels"),
    ({"checks": CHECKS | {"centers_still": 25}}, ("warning", "still-centers"), "25 % of the centers never moved, in 3"),
    ({"checks": CHECKS | {"kmeans_unconverged": 1}}, ("warning", "k-means"), "3 k-means restarts still changed"),
    ({"recipe": with_recipe("dataset", partial=True)}, ("warning", "partial-data"), "partial copy"),
    ({"recipe": RECIPE | {"subset": [{"name": "long_tail", "ratio": 10}]}, "protocol_id": "p1"},
     ("warning", "partial-data"), "all of it (softtriple); long_tail ratio=10 (arcface)"),
    ({"status": "failed", "reason": "loss is nan", "metrics": {}}, ("warning", "failed-runs"), "loss is nan"),
])  # fmt: skip
def test_one_fault_is_one_finding(make, changes, key, words):
    findings = found(grid(make, **changes))
    assert set(findings) == {key}
    assert words in findings[key].message


@pytest.mark.parametrize("changes", [{"embedding_dim": 512}, {"recipe": with_recipe("training", epochs=20)}])
def test_an_axis_that_all_losses_share_is_no_unfairness(make, changes):
    runs = [replace(run, curve=curve([1.0] * 5)) for run in grid(make)]
    longer = {} if "embedding_dim" in changes else {"curve": curve([1.0] * 9)}
    more = [replace(run, recipe_id=run.recipe_id + "x", **changes, **longer) for run in runs]
    assert found(runs + more) == {}


def test_fewer_than_three_seeds(make):
    findings = found(grid(make, seeds=(0, 1)))
    assert [f.message[:7] for f in findings.values()] == ["2 seeds"]
    assert {f.where for f in audit(grid(make, seeds=(0, 1))) if f.check == "seeds"} == {
        "glyphs: arcface (id_arcface_)",
        "glyphs: softtriple (id_softtriple_)",
    }


def test_a_seed_that_other_rows_have(make):
    runs = grid(make, seeds=(0, 1, 2, 3))
    findings = found(runs[:2] + runs[3:])
    assert findings["warning", "failed-runs"].message == "seed 2 is missing, which other rows have"


def curve(losses, speed=100.0):
    return tuple(Epoch(i, loss, 0.1, speed, 2.0) for i, loss in enumerate(losses, 1))


def test_training_on_more_images_than_others(make):
    runs = grid(make, curve=curve([1.0] * 9, 120.0))
    runs = [run if run.curve else replace(run, curve=curve([1.0] * 9, 100.0)) for run in runs]
    assert found(runs)["warning", "budgets"].message == "training saw 1800 images (softtriple) to 2160 (arcface)"
    patient = [replace(run, recipe=with_recipe("selection", patience=2)) for run in runs]
    assert found(patient) == {}


def test_a_loss_that_still_falls(make):
    falling = curve([2 - 0.1 * i for i in range(10)])
    assert last_fall(make(curve=falling)) == pytest.approx(0.1 / 1.2)
    assert set(found(grid(make, curve=falling))) == {("note", "undertrained")}
    assert found(grid(make, curve=curve([1.0 - 0.001 * i for i in range(10)]))) == {}
    assert last_fall(make(curve=falling[:6])) == pytest.approx(0.6 * 0.1 / 1.6)  # a tenth is 0.6 epochs
    assert last_fall(make(curve=falling[:1])) is None
    assert last_fall(make(curve=curve([-1.0, -1.5]))) == pytest.approx(0.1)
    assert last_fall(make(curve=curve([float("nan")] * 20))) is None


def test_a_run_that_failed_before_its_network_was_built_is_no_other_network(make):
    runs = grid(make, weights="sha")
    runs = [replace(run, weights="sha") for run in runs]
    runs[0] = replace(runs[0], status="failed", reason="x", metrics={}, weights="", embedding_dim=0)
    assert set(found(runs)) == {("warning", "failed-runs"), ("warning", "seeds")}


def test_runs_of_several_versions(make):
    runs = grid(make, environment={"dml_bench": "1", "packages": {"torch": "2.6"}, "device": "cpu"})
    runs = [
        r if r.environment else replace(r, environment={"dml_bench": "1", "packages": {"torch": "2.7"}}) for r in runs
    ]
    assert {f.message for f in audit(runs) if f.check == "machines"} == {
        "runs differ in torch: 2.6, 2.7",
        "runs differ in device: None, cpu",
    }


def test_old_records_say_so(make):
    old = [replace(run, checks={}) for run in grid(make)]
    assert [f.message for f in audit(old) if f.where == "records"] == [
        "6 of 6 records do not say whether k-means converged and centers moved"
    ]


def test_the_data_is_looked_at_once_and_compared(make):
    asked = []

    def look(run):
        asked.append(run)
        return DataNow("e", test=200, duplicates=3, example="training image 1 and test image 2")

    findings = found(grid(make), look)
    assert len(asked) == 1
    assert findings["error", "data-digest"].message.endswith("e not d")
    assert findings["warning", "near-duplicates"].message.startswith("3 of 200 test images (1.5 %)")
    assert found(grid(make), lambda run: DataNow("d", test=200, duplicates=0)) == {}


def test_data_that_is_not_here_is_said_to_be_not_checked(make):
    findings = [f for f in audit(grid(make), lambda run: DataNow(reason="no such folder")) if f.check == "not-checked"]
    assert [(f.severity, f.message) for f in findings] == [("note", "data not here: no such folder")]


def test_a_training_part_that_all_losses_share_is_a_note(make):
    recipe = RECIPE | {"subset": [{"name": "long_tail"}]}
    runs = [replace(run, recipe=recipe) for run in grid(make)]
    assert {key: f.message for key, f in found(runs).items()} == {
        ("note", "partial-data"): "trained on a changed training part: long_tail"
    }


def test_a_marked_run_behind_others_is_found(make):
    oracle = with_recipe("selection", name="test_oracle", metric="nmi")
    runs = grid(make)
    runs[2] = replace(runs[2], recipe=oracle)
    finding = found(runs)["error", "selected-on-test"]
    assert finding.where.startswith("glyphs: arcface")
    assert finding.message.endswith("(test_oracle), 1 of 3 runs")
    runs = grid(make)
    runs[-1] = replace(runs[-1], recipe=with_recipe("dataset", partial=True))
    assert found(runs)["warning", "partial-data"].message.startswith("a partial copy (softtriple): ")


def test_losses_that_saw_different_data(make):
    runs = grid(make, data=DATA | {"digest": "e"})
    assert {key: f.message for key, f in found(runs).items()} == {
        ("error", "data-digest"): "runs saw 2 versions of the data: e (3 runs of arcface), d (3 runs of softtriple)"
    }
    other = with_recipe("dataset", image_size=64)  # which is no other version
    changed = [replace(run, recipe=other) if run.loss == "arcface" else run for run in runs]
    assert ("error", "data-digest") not in found(changed)


def test_runs_of_one_recipe_on_several_data(make):
    runs = grid(make)
    other = replace(runs[0], data=DATA | {"digest": "e"}, protocol_id="p1")
    assert "2 versions" in found([other, *runs[1:]])["error", "data-digest"].message


def test_the_most_serious_comes_first(make):
    runs = grid(make, seeds=(0,), recipe=with_recipe("selection", name="test_oracle", metric="nmi"))
    assert [f.severity for f in audit(runs)] == ["error", "warning", "warning", "note"]
