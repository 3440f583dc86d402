from __future__ import annotations

import numpy as np

from dml_bench.reports.plots.sweeps import TICKS, centers_sweep, option_sweep, sweeps
from dml_bench.reports.summary import sections


def lines_of(figure):
    return [{line.get_label(): line for line in axes.lines} for axes in figure.axes]


def softtriple(make, k: int, weight: float, value: float):
    options = {"centers_per_class": k, "regularizer_weight": weight}
    return make("softtriple", metrics={"recall@1": value}, options=options)


def test_centers_have_a_line_with_the_regularizer_and_one_without(make, draw_one):
    runs = [softtriple(make, k, 0.0, 0.5 + k / 100) for k in (1, 2, 10)]
    runs += [softtriple(make, k, 2.0, 0.6 + k / 100) for k in (10, 2)]
    figure = draw_one(centers_sweep, runs)
    (lines,) = lines_of(figure)
    regular, plain = lines["softtriple  regularizer_weight=2"], lines["softtriple  no regularizer"]
    assert np.allclose(plain.get_ydata(), [51, 52, 60])
    # with one center there is nothing to regularize, so both lines begin there
    assert np.allclose(regular.get_ydata(), [51, 62, 70])
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["1", "2", "10"]
    assert plain.get_markerfacecolor() == "white" != regular.get_markerfacecolor()
    assert draw_one(option_sweep, runs) is None


def test_a_regularizer_at_its_default_is_named_too(make, draw_one):
    def run(k: int, weight: float):
        options = {"centers_per_class": k, **({} if weight == 0.2 else {"regularizer_weight": weight})}
        loss = {"name": "softtriple", "centers_per_class": k, "regularizer_weight": weight}
        return make("softtriple", recipe_id=f"{k} {weight}", options=options, recipe={"loss": loss})

    (lines,) = lines_of(draw_one(centers_sweep, [run(k, weight) for k in (1, 5) for weight in (0.0, 0.2)]))
    assert set(lines) == {"softtriple  regularizer_weight=0.2", "softtriple  no regularizer"}


def test_an_option_at_its_default_is_known_from_the_recipe(make, draw_one):
    def run(scale: float, margin: float, value: float):
        options = {k: v for k, v in {"scale": scale, "margin": margin}.items() if (k, v) != ("scale", 16.0)}
        loss = {"name": "arcface", "scale": scale, "margin": margin}
        return make(options=options, metrics={"recall@1": value}, recipe={"name": "x", "loss": loss, "seed": 0})

    runs = [run(16.0, 0.2, 0.6), run(8.0, 0.2, 0.5), run(64.0, 0.2, 0.4), run(64.0, 0.5, 0.3)]
    figure = draw_one(option_sweep, runs)
    (lines,) = lines_of(figure)
    assert figure.axes[0].get_xlabel().startswith("scale")
    assert np.allclose(lines["arcface  margin=0.2"].get_ydata(), [50, 60, 40])
    # margin has two values at one scale: a pair, and no sweep
    assert {name: len(found) for name, found in sweeps(sections(runs)[0]).items()} == {"margin": 1, "scale": 1}


def test_rows_that_differ_in_more_are_no_line(make, draw_one):
    runs = [make(options={"scale": s, "training.epochs": e}) for s, e in ((8.0, 1), (16.0, 2), (32.0, 3))]
    assert draw_one(option_sweep, runs) is None
    runs = [make(options={"deep": bool(i), "name": f"n{i}"}) for i in range(2)]
    assert sweeps(sections(runs)[0]) == {}


def test_of_many_values_some_are_named(make, draw_one):
    runs = [make(options={"scale": float(s)}) for s in range(1, 41)]
    assert len(draw_one(option_sweep, runs).axes[0].get_xticks()) <= TICKS
