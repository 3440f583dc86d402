from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dml_bench.reports.plots.cost import front, pareto


def timed(make, loss: str, seconds: float, value: float, **changes):
    return make(loss, metrics={"recall@1": value}, seconds={"train": float(seconds)}, **changes)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=12), st.booleans())
def test_the_front_is_what_no_other_beats(pairs, higher):
    points = [(i, float(x), float(y)) for i, (x, y) in enumerate(pairs)]
    sign = 1 if higher else -1

    def beaten(a, b):
        return b[1] <= a[1] and sign * b[2] >= sign * a[2] and (b[1], b[2]) != (a[1], a[2])

    expected = {(x, y) for _, x, y in points if not any(beaten((0, x, y), other) for other in points)}
    found = [points[i][1:] for i in front(points, higher)]
    assert set(found) == expected
    assert found == sorted(expected)


def test_the_step_line_goes_from_the_fastest_to_the_best(make, draw_one):
    runs = [timed(make, "arcface", 5, 0.6), timed(make, "coco", 10, 0.8), timed(make, "supcon", 12, 0.7)]
    (axes,) = draw_one(pareto, runs).axes
    (step,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert list(zip(step.get_xdata(), step.get_ydata(), strict=True))[:3] == [(5, 60), (10, 60), (10, 80)]
    # letters are those of the tables, the best first
    assert {text.get_text() for text in axes.texts} - {""} == {"c arcface", "a coco", "b"}


def test_level_bars_reach_from_the_fastest_seed_to_the_slowest(make, draw_one):
    times = {"arcface": (5, 9, 16), "coco": (10, 10, 10)}
    runs = [timed(make, loss, t, 0.6, seed=s) for loss, three in times.items() for s, t in enumerate(three)]
    figure = draw_one(pareto, runs)
    ends = [segment[:, 0].tolist() for lines in figure.axes[0].collections for segment in lines.get_segments()]
    assert [5, 16] in ends and [10, 10] in ends
    assert figure.axes[0].get_xlim()[1] > 16
    assert "the fastest and the slowest seed" in figure.get_suptitle()
    assert "slowest" not in draw_one(pareto, [run for run in runs if run.seed == 0]).get_suptitle()


def test_references_are_levels_or_said_to_be_off_the_scale(make, draw_one):
    runs = [timed(make, "arcface", 5, 0.6), timed(make, "coco", 10, 0.8)]
    runs += [make("untrained", metrics={"recall@1": 0.1}, seconds={}), make("raw_pixels", metrics={"recall@1": 0.7})]
    (axes,) = draw_one(pareto, runs).axes
    labels = {line.get_label(): line for line in axes.lines if "d  " in line.get_label() or "c  " in line.get_label()}
    assert set(labels) == {"c  raw_pixels: 70.0", "d  untrained: 10.0, below the scale"}
    assert list(labels["c  raw_pixels: 70.0"].get_ydata()) == [70, 70]


def test_it_needs_two_times(make, draw_one):
    assert draw_one(pareto, [timed(make, "arcface", 5, 0.6), make("coco", seconds={})]) is None
    assert draw_one(pareto, [timed(make, "arcface", 5, 0.6), timed(make, "coco", 0, 0.6)]) is None


def test_times_far_apart_are_spaced_by_powers(make, draw_one):
    runs = [timed(make, "arcface", 2, 0.6), timed(make, "coco", 2000, 0.8)]
    assert draw_one(pareto, runs).axes[0].get_xscale() == "log"
