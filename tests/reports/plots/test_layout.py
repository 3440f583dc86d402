"""What holds for every picture: nothing is clipped, and no text covers another."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from dml_bench.reports.plots import ACROSS, PICTURES
from dml_bench.reports.style import SETTINGS, looks
from dml_bench.reports.summary import sections
from dml_bench.results.record import Epoch

LONG = "a_loss_with_a_very_long_name_that_says_all_there_is_to_be_said_of_it"


def curve(*losses: float) -> tuple[Epoch, ...]:
    return tuple(Epoch(i, float(loss), 1e-3, 100.0, 1.0) for i, loss in enumerate(losses, 1))


def hostile(make, publish, options_grid):
    odd = [make("<script>alert(1)</script>", options={"$x$": "_a^b & <c> | ü", "scale": s}) for s in (1, 2, 3)]
    return [*odd, *publish(LONG, 0.7), *publish("$\\frac{1}{0}$", 0.5, options={"x": LONG * 3})]


def many(make, publish, options_grid):
    rows = [
        run
        for i in range(60)
        for run in publish(
            f"loss_{i}", 0.4 + i / 120, 2, 4, seconds={"train": 60.0 + i % 7}, curve=curve(3, i)[: 2 * (i < 20)]
        )
    ]
    return [*rows, *publish("untrained", 0.2)]


def few(make, publish, options_grid):
    runs = [make(loss, metrics={"recall@1": 0.5}, curve=curve(1, 0)) for loss in ("softtriple", "untrained")]
    return [*runs, make("softtriple", 1, metrics={"recall@2": 0.7}, centers_left=(1, 2))]


def failed(make, publish, options_grid):
    return [make(s, status="failed", metrics={}, curve=curve(2, math.nan), reason="diverged: x") for s in ("a", "b")]


def unknown(make, publish, options_grid):
    nan = {"recall@1": math.nan, "recall@2": math.nan}
    return [make(loss, s, metrics=nan, curve=curve(math.nan)) for loss in ("a", "b") for s in (0, 1)]


def one(make, publish, options_grid):
    return publish("arcface", 0.8)


def grid(make, publish, options_grid):
    return options_grid


SETS = (hostile, many, few, failed, unknown, one, grid)
KINDS = {**{name: lambda found, look, p=p: p(found[0], look) for name, p in PICTURES.items()}, **ACROSS}


@pytest.fixture(scope="module")
def records(make, publish, options_grid):
    return {runs.__name__: runs(make, publish, options_grid) for runs in SETS}


@pytest.mark.parametrize("runs", [runs.__name__ for runs in SETS])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_clipped_and_no_text_covers_another(kind, runs, records):
    records = records[runs]
    if kind in ACROSS:
        records = [replace(run, dataset=dataset, folder=None) for dataset in "abc" for run in records]
    found = sections(records)
    with matplotlib.rc_context(SETTINGS):
        figure = KINDS[kind](found, looks(found))
        if figure is None:
            return
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    drawn, (width, height) = figure.get_tightbbox(canvas.get_renderer()), figure.get_size_inches()
    assert drawn.x0 >= -0.01 and drawn.y0 >= -0.01 and drawn.x1 <= width + 0.01 and drawn.y1 <= height + 0.01
    for legend in figure.legends:
        assert not any(legend.get_window_extent().overlaps(axes.get_window_extent()) for axes in figure.axes)
    assert covered(figure) == []


def covered(figure) -> list[tuple[str, str]]:
    """Return the pairs of texts of which one covers the other by more than a pixel."""
    hidden = {id(text) for axes in figure.findobj(Axes) for text in unseen(axes)}
    texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    texts = [text for text in texts if id(text) not in hidden]
    boxes = np.array([text.get_window_extent().extents for text in texts])
    first, second = np.triu_indices(len(texts), 1)
    sides = np.minimum(boxes[first, 2:], boxes[second, 2:]) - np.maximum(boxes[first, :2], boxes[second, :2])
    return [(texts[first[i]].get_text(), texts[second[i]].get_text()) for i in np.flatnonzero((sides > 1).all(axis=1))]


def unseen(axes: Axes) -> Iterator[Text]:
    """Yield the texts that are not drawn: all of hidden axes, and of ticks outside the limits."""
    if not axes.get_visible() or not axes.axison:
        yield from (text for text in axes.findobj(Text) if not axes.get_visible() or text not in axes.texts)
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for minor in (False, True):
            places = axis.get_ticklocs(minor=minor)
            labels = axis.get_ticklabels(minor=minor)
            yield from (text for at, text in zip(places, labels, strict=False) if not low <= at <= high)


def test_a_covered_text_is_seen():
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    for x, text in ((0.2, "under"), (0.22, "over"), (0.8, "beside")):
        axes.text(x, 0.5, text)
    assert covered(figure) == [("under", "over")]
