from __future__ import annotations

import numpy as np
import pytest

from dml_bench.reports.plots.dots import SHADE, metric_dots
from dml_bench.reports.standings import Standings
from dml_bench.reports.summary import sections


def test_bars_are_the_intervals_of_the_tables(publish, draw_one):
    runs = [*publish("arcface", 0.8), *publish("supcon", 0.6)]
    (axes,) = draw_one(metric_dots, runs).axes
    found = Standings(sections(runs)[0], "recall@1").estimates
    bars = [bar.get_segments()[0][:, 0] for bar in axes.collections]
    assert np.allclose(bars, [[100 * known.low, 100 * known.high] for known in found])
    left, right = axes.get_xlim()
    assert left < np.min(bars) and np.max(bars) < right


def test_rows_that_are_tied_are_shaded_bracketed_and_said_to_be_tied(publish, draw_one):
    runs = [*publish("arcface", 0.8), *publish("coco", 0.79), *publish("supcon", 0.4)]
    figure = draw_one(metric_dots, runs)
    (axes,) = figure.axes
    (shade,) = axes.patches
    assert (shade.get_y(), shade.get_height()) == (-0.5, 2)
    (bracket,) = [line.get_ydata() for line in axes.lines if len(line.get_xdata()) == 4]
    assert bracket == pytest.approx([-0.36, -0.36, 1.36, 1.36])
    assert [text.get_text() for text in axes.texts] == ["tied"]
    assert "tied, not told apart from the best" in figure.get_suptitle()
    assert SHADE != "#FFFFFF"


def test_an_interval_that_is_cut_at_the_edge_says_so(publish, draw_one):
    figure = draw_one(metric_dots, [*publish("arcface", 0.85, classes=40), *publish("untrained", 0.84, 2, 3)])
    (axes,) = figure.axes
    left, right = axes.get_xlim()
    low, high = axes.collections[1].get_segments()[0][:, 0]
    assert low < left and high > right
    assert [(line.get_marker(), line.get_xdata()[0]) for line in axes.lines if line.get_marker() in "<>"] == [
        ("<", left),
        (">", right),
    ]


@pytest.mark.parametrize("seeds", [1, 2])
def test_without_values_per_query_it_says_what_the_bars_rest_on(make, draw_one, seeds):
    runs = [make(seed=s, metrics={"recall@1": 0.5 + s / 100}) for s in range(seeds)]
    said = draw_one(metric_dots, runs).get_suptitle()
    assert ("95 % interval for new seeds" in said and "classes" not in said) if seeds == 2 else "one seed" in said
