from __future__ import annotations

import numpy as np
import pytest

import dml_bench
from dml_bench.reports.plots.subsets import subset_sweep
from dml_bench.reports.style import looks
from dml_bench.reports.summary import sections


@pytest.fixture
def trained(make):
    """Return what makes a run on a subset: another protocol, as the training part is another."""

    def run(value: float, loss: str = "norm_softmax", subset=(), training=1, test=100, **changes):
        chain = [{**part, "seed": 0} for part in subset]
        recipe = {"loss": {"name": loss}, "subset": chain, "training": {"epochs": training}, "seed": 0}
        data = {"test": {"images": test, "classes": 5}, "queries": test}
        own = {"recipe_id": f"{loss} {chain} {training} {changes}", "options": {"subset": chain}}
        own |= {"protocol_id": f"p {chain} {test}", "metrics": {"recall@1": value}}
        return make(loss, recipe=recipe, data=data, **(own | changes))

    return run


def tail(factor: float):
    return [{"name": "long_tail", "factor": factor}]


def picture(runs):
    found = sections(runs)
    return subset_sweep(found, looks(found))


def panels(figure):
    return {
        axes.get_xlabel(): {line.get_label(): list(line.get_ydata()) for line in axes.lines} for axes in figure.axes
    }


def test_a_line_joins_protocols_and_begins_with_the_whole_training_part(trained):
    runs = [trained(0.9), trained(0.5, subset=tail(100.0)), trained(0.7, subset=tail(10.0))]
    runs += [trained(0.8, "coco", tail(100.0)), trained(0.6, "coco", tail(10.0)), trained(0.1, "untrained")]
    figure = picture(runs)
    (lines,) = panels(figure).values()
    assert np.allclose(lines["norm_softmax"], [90, 70, 50]) and np.allclose(lines["coco"], [60, 80])
    assert figure.axes[0].get_xlabel() == "factor of long_tail on glyphs (equally spaced)"
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["1", "10", "100"]
    assert figure.get_suptitle().startswith("recall@1 of 3 protocols that differ in the training part alone")
    assert set(lines) == {"norm_softmax", "coco"}


def test_fewer_images_end_with_all_of_them(trained):
    runs = [trained(v, subset=[{"name": "few_shot", "images_per_class": n}]) for n, v in ((5, 0.4), (2, 0.3))]
    figure = picture([trained(0.9), *runs])
    (lines,) = panels(figure).values()
    assert np.allclose(lines["norm_softmax"], [30, 40, 90])
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["2", "5", "all"]


def test_each_option_of_a_subset_has_a_panel(trained):
    def steps(factor: float, share: float):
        return [{"name": "step_imbalance", "factor": factor, "share": share}]

    runs = [trained(0.9 - f / 100 - s / 10, subset=steps(f, s)) for f in (2.0, 20.0) for s in (0.25, 0.5)]
    found = panels(picture([trained(0.95), *runs]))
    assert sorted(found) == [f"{name} of step_imbalance on glyphs (equally spaced)" for name in ("factor", "share")]


@pytest.mark.parametrize(
    "other",
    [
        {"training": 2},
        {"test": 99},
        {"subset": [*tail(2.0), {"name": "label_noise", "rate": 0.1}]},
        {"loss": "coco"},
        {"backbone": "resnet50"},
        {"dataset": "digits"},
        {"status": "failed", "metrics": {}},
    ],
)
def test_runs_that_differ_in_more_are_no_line(trained, other):
    run = trained(0.5, **({"subset": tail(10.0)} | other))
    assert picture([trained(0.9), run]) is None
    assert picture([trained(0.9), trained(0.5, subset=tail(10.0)), run]) is not None


def test_real_runs_on_a_long_tail_are_a_line(tmp_path):
    recipe = {
        "dataset": {"name": "glyphs", "characters": 20, "images_per_face": 1, "image_size": 16},
        "backbone": {"name": "convnet", "width": 8},
        "training": {"epochs": 1, "sampler": {"name": "pxk", "classes_per_batch": 4, "images_per_class": 2}},
        "evaluation": {"metrics": ["recall@1"]},
        "references": False,
        "grid": {"loss": ["norm_softmax"], "subset": [[], tail(3.0), tail(6.0)]},
    }
    runs = dml_bench.run(recipe, out=tmp_path, device="cpu")
    (lines,) = panels(picture(runs)).values()
    assert np.allclose(lines["norm_softmax"], [100 * run.metrics["recall@1"] for run in runs])
    assert len({run.protocol_id for run in runs}) == 3
