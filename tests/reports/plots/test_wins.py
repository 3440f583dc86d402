from __future__ import annotations

from dml_bench.reports.plots.wins import BETTER, MOST, SAME, SELF, WORSE, win_matrix
from dml_bench.reports.standings import Standings
from dml_bench.reports.summary import sections


def test_cells_say_who_is_better_and_by_how_much(publish, draw_one):
    runs = [*publish("arcface", 0.8), *publish("coco", 0.79), *publish("supcon", 0.4), *publish("raw_pixels", 0.3)]
    (axes,) = draw_one(win_matrix, runs).axes
    (cells,) = axes.collections
    assert cells.get_array().tolist() == [[SELF, SAME, BETTER], [SAME, SELF, BETTER], [WORSE, WORSE, SELF]]
    texts = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
    (section,) = sections(runs)
    means = [100 * known.mean for known in Standings(section, "recall@1").estimates]
    assert texts[0, 2] == f"+{means[0] - means[2]:.1f} ▲"
    assert texts[2, 0] == f"−{means[0] - means[2]:.1f} ▼"
    assert texts[0, 1] == f"+{means[0] - means[1]:.1f}"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["arcface   a", "coco   b", "supcon   c"]


def test_what_cannot_be_tested_is_no_row(publish, make, draw_one):
    runs = [*publish("arcface", 0.8), *publish("coco", 0.79), *publish("supcon", 0.7, seeds=1), make("ohem")]
    assert len(draw_one(win_matrix, runs).axes[0].get_yticks()) == 2
    assert draw_one(win_matrix, runs[:3]) is None


def test_of_many_rows_the_first_are_shown_and_it_says_so(publish, draw_one):
    runs = [run for i in range(MOST + 2) for run in publish(f"loss_{i}", 0.5 + i / 100, seeds=2, classes=3)]
    figure = draw_one(win_matrix, runs)
    assert len(figure.axes[0].get_yticks()) == MOST
    assert f"the first {MOST} of {MOST + 2} rows" in figure.get_suptitle()
