from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pytest

from dml_bench.reports.plots import ACROSS, NEEDS, PICTURES, draw
from dml_bench.reports.plots.centers import centers_histogram
from dml_bench.reports.plots.dots import metric_dots
from dml_bench.reports.plots.recall import recall_curves
from dml_bench.reports.plots.training import training_curves
from dml_bench.reports.style import looks
from dml_bench.reports.summary import sections
from dml_bench.results.record import Epoch


def figure_of(picture, runs):
    (section,) = sections(runs)
    return picture(section, looks([section]))


def curve(*losses: float) -> tuple[Epoch, ...]:
    return tuple(Epoch(i, float(loss), 1e-3, 100.0, 1.0) for i, loss in enumerate(losses, 1))


def texts(svg: bytes) -> str:
    return " ".join("".join(node.itertext()) for node in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"))


def test_recall_lines_show_the_means_at_the_ks(make):
    values = {1: (0.5, 0.7), 10: (0.8, 0.9), 1000: (0.95, 0.97)}
    runs = [make(seed=s, metrics={f"recall@{k}": v[s] for k, v in values.items()}) for s in (0, 1)]
    (axes,) = figure_of(recall_curves, runs).axes
    (line,) = axes.lines
    assert np.allclose(line.get_xdata(), [1, 10, 1000])
    assert np.allclose(line.get_ydata(), [60, 85, 96])
    assert axes.get_xticks().tolist() == [1, 10, 1000]
    (bars,) = axes.collections
    assert np.allclose(bars.get_segments()[0][:, 1], [60 - 100 * 0.02**0.5, 60 + 100 * 0.02**0.5])


def test_references_do_not_flatten_the_losses(quickstart):
    losses, references = figure_of(recall_curves, quickstart).axes
    assert (len(losses.lines), len(references.lines)) == (11, 2)
    assert losses.get_ylim()[0] > 70


def test_a_reference_that_is_no_worse_than_a_loss_shares_its_scale(make):
    values = {"arcface": 0.5, "raw_pixels": 0.8, "untrained": 0.2}
    runs = [make(loss, metrics={"recall@1": v, "recall@2": v + 0.1}) for loss, v in values.items()]
    losses, references = figure_of(recall_curves, runs).axes
    assert {tuple(np.round(line.get_ydata())) for line in losses.lines} == {(50, 60), (80, 90)}
    assert [tuple(np.round(line.get_ydata())) for line in references.lines] == [(20, 30)]


def test_each_metric_has_a_panel_that_spans_the_losses_and_points_to_the_references(quickstart):
    shown = [axes for axes in figure_of(metric_dots, quickstart).axes if axes.get_visible()]
    names = ["recall@1", "recall@2", "recall@4", "recall@8", "map@r", "r_precision", "nmi"]
    assert [axes.get_title() for axes in shown] == names
    first = shown[0]
    left, right = first.get_xlim()
    dots = [line.get_xdata()[0] for line in first.lines]
    assert len(dots) == 11
    assert left < min(dots) and max(dots) < right
    assert [text.get_text()[0] for text in first.texts] == ["◂", "◂"]


def test_mean_training_curve_is_that_of_finished_seeds_and_failed_ones_end_in_a_cross(make):
    runs = [make(seed=0, curve=curve(4, 2, 1)), make(seed=1, curve=curve(2, 2, 0))]
    runs += [make(seed=2, status="failed", metrics={}, curve=curve(6, np.inf))]
    (axes,) = figure_of(training_curves, runs).axes
    mean, third, cross = (list(line.get_ydata()) for line in axes.lines)
    assert mean == [3, 2, 0.5]
    assert third[0] == 6 and np.isnan(third[1])
    assert cross == [6]
    (band,) = axes.collections
    corners = {tuple(point) for point in band.get_paths()[0].vertices}
    assert corners == {(1, 2), (1, 4), (2, 2), (3, 0), (3, 1)}


def test_centers_are_counted_over_classes_and_seeds(make):
    runs = [make("softtriple", 0, centers_left=(1, 1, 3)), make("softtriple", 1, centers_left=(1, 2, 3))]
    (axes,) = figure_of(centers_histogram, runs).axes
    assert np.allclose([bar.get_height() for bar in axes.patches], [0, 3 / 6, 1 / 6, 2 / 6])


def test_pictures_that_do_not_apply_are_not_drawn(make):
    names = [name for name, _ in draw([make()])]
    assert names == ["dots.png", "dots.svg"]
    assert list(draw([make(status="failed", metrics={})])) == []


@pytest.mark.parametrize("epochs", [1, 2])
def test_short_trainings_one_seed_and_missing_metrics_are_drawn(make, epochs):
    runs = [
        make(curve=curve(*range(epochs)), metrics={"recall@1": 1.0, "recall@2": 1.0}),
        make("softtriple", metrics={}),
    ]
    runs += [make("am_softmax", metrics={"recall@2": 0.5, "nmi": 0.0})]
    assert {name for name, _ in draw(runs) if name.endswith("svg")} >= {"dots.svg", "recall.svg", "training.svg"}


def test_svg_is_the_same_every_time_and_whatever_the_users_settings(make):
    runs = [make(seed=s, metrics={"recall@1": 0.5 + s / 9, "recall@2": 0.8}, curve=curve(2, 1)) for s in (0, 1)]
    first = dict(draw(runs))
    with matplotlib.rc_context({"lines.linewidth": 7, "axes.facecolor": "red"}):
        assert dict(draw(runs)) == first
        assert matplotlib.rcParams["lines.linewidth"] == 7
    assert b"<dc:date>" not in first["dots.svg"]


def test_text_of_an_svg_is_text_and_says_every_name(quickstart):
    svgs = {name: texts(content) for name, content in draw(quickstart[:8]) if name.endswith(".svg")}
    for name in ("recall.svg", "dots.svg", "pareto.svg", "training.svg"):
        assert all(loss in svgs[name] for loss in ("softtriple", "norm_softmax", "am_softmax", "arcface"))


def test_odd_names_are_shown_as_they_are(make):
    odd = "_$a_b$ & <c> | ü"
    runs = [make(odd, metrics={"recall@1": 0.5, "recall@2": 0.8}, curve=curve(2, 1), options={"x": "$y$"})]
    for name, content in draw(runs):
        if name.endswith(".svg"):
            assert "_$a_b$ & <c> | ü  x=$y$" in texts(content)


def test_several_data_sets_have_files_of_their_own(make):
    runs = [make(), dataclasses.replace(make(), dataset="a/b ü")]
    names = [name for name, _ in draw(runs) if name.endswith("png")]
    assert names == ["dots-a_b_ü-p0.png", "dots-glyphs-p0.png"]


def test_every_kind_says_what_it_needs():
    assert set(NEEDS) == {*PICTURES, *ACROSS}


def test_no_bar_of_the_centers_is_cut_off_by_its_neighbours_scale(make):
    spread = make("softtriple", 0, centers_left=(1, 2, 3, 4, 5))
    together = make("hardtriple", 0, centers_left=(5, 5, 5, 5, 5))
    for axes in figure_of(centers_histogram, [spread, together]).axes:
        assert all(bar.get_height() <= axes.get_ylim()[1] for bar in axes.patches)
