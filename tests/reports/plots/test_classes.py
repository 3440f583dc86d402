from __future__ import annotations

import numpy as np

from dml_bench.reports.plots.classes import BEST, class_recall


def test_lines_are_the_class_means_from_the_worst_to_the_best(publish, draw_one):
    runs = publish("arcface", 0.7, classes=6)
    (axes,) = draw_one(class_recall, runs).axes
    hits = [np.load(run.folder / "per_query.npz")["recall@1"] for run in runs]
    means = 100 * np.mean(hits, axis=0).reshape(6, 15).mean(axis=1)
    assert np.allclose(axes.lines[0].get_ydata(), np.sort(means), atol=1e-4)
    assert axes.lines[0].get_xdata()[[0, -1]].tolist() == [0, 1]


def test_the_best_and_the_references_are_shown(publish, make, draw_one):
    runs = [run for i in range(BEST + 2) for run in publish(f"loss_{i}", 0.4 + i / 12, classes=4)]
    figure = draw_one(class_recall, [*runs, *publish("untrained", 0.2, seeds=1), make("coco")])
    losses, references = figure.axes
    means = {run.loss: np.mean([r.metrics["recall@1"] for r in runs if r.loss == run.loss]) for run in runs}
    assert [line.get_label() for line in losses.lines] == sorted(means, key=means.get, reverse=True)[:BEST]
    assert [line.get_label() for line in references.lines] == ["untrained"]
    assert f"the best {BEST} of {BEST + 2} losses" in figure.get_suptitle()


def test_a_reference_that_is_no_worse_than_a_loss_shares_its_scale(publish, draw_one):
    figure = draw_one(class_recall, [*publish("arcface", 0.5), *publish("raw_pixels", 0.8), *publish("untrained", 0.2)])
    losses, references = figure.axes
    assert [line.get_label() for line in losses.lines] == ["arcface", "raw_pixels"]
    assert [line.get_label() for line in references.lines] == ["untrained"]


def test_markers_stay_few_and_apart_with_many_classes(publish, draw_one):
    runs = [*publish("arcface", 0.7, 1, 659), *publish("coco", 0.6, 1, 659)]
    (axes,) = draw_one(class_recall, runs).axes
    (start, every), (other, _) = (line.get_markevery() for line in axes.lines)
    assert 659 / every < 12 and start != other


def test_it_needs_values_per_query_of_two_classes(publish, make, draw_one):
    assert draw_one(class_recall, [make()]) is None
    assert draw_one(class_recall, publish("arcface", 0.7, classes=1)) is None
