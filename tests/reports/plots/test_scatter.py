from __future__ import annotations

import numpy as np
import pytest

from dml_bench.reports.plots.canvas import rendered
from dml_bench.reports.plots.scatter import Scatter, scatter


def panel(degrees, labels, centers, **changes) -> Scatter:
    """Embeddings of different lengths at some angles."""
    angles = np.radians(np.array(degrees, dtype=float))
    lengths = np.linspace(1, 3, len(angles))[:, None]
    directions = np.radians(np.array(centers, dtype=float))
    points = lengths * np.stack([np.cos(angles), np.sin(angles)], 1)
    ends = 0.1 * np.stack([np.cos(directions), np.sin(directions)], -1)
    names = changes.get("names", tuple(str(c) for c in range(len(ends))))
    return Scatter("l_softmax", points, np.array(labels), ends, names)


def test_angles_are_those_to_the_mean_direction_and_to_the_nearest_center():
    one = panel([10, 20, 100, 120], [0, 0, 1, 1], [[11], [110]])
    assert one.width == pytest.approx((5 + 5 + 10 + 10) / 4)
    assert one.angle == pytest.approx((1 + 9 + 10 + 10) / 4)
    assert panel([10, 350], [0, 0], [[350, 12]]).angle == pytest.approx(1)
    none = panel([10, 20], [0, 0], np.empty((1, 0)))
    assert np.isnan(none.angle) and none.width == pytest.approx(5)


def test_lines_lead_from_the_origin_along_the_centers_and_axes_are_equal():
    figure = scatter([panel([0, 90, 90], [0, 1, 1], [[0], [90]])], "digits")
    axes = figure.axes[0]
    ends = [np.stack(line.get_data(), 1) for line in axes.lines]
    assert np.allclose(ends, [[[0, 0], [3, 0]], [[0, 0], [0, 3]]])
    assert axes.get_aspect() == 1
    assert [len(part.get_offsets()) for part in axes.collections] == [1, 2]
    assert [text.get_text() for text in axes.texts] == ["0", "1"]


def test_each_loss_has_a_panel_and_unused_places_are_empty():
    figure = scatter([panel([0, 90], [0, 1], [[0], [90]])] * 5, "digits")
    assert [axes.get_visible() for axes in figure.axes] == [True] * 5 + [False] * 3
    assert scatter([], "digits") is None


def test_of_many_classes_ten_are_drawn_and_no_center_is_no_line():
    many = panel(
        np.arange(40) * 9, np.arange(40), np.empty((40, 0)), names=tuple(f"class {c} {'x' * 60}" for c in range(40))
    )
    figure = scatter([many], "omniglot")
    assert sum(len(part.get_offsets()) for part in figure.axes[0].collections) == 10
    assert not figure.axes[0].lines
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(names) == 10 and all(len(name) <= 24 for name in names)
    assert "10 of 40 classes" in figure.get_suptitle()


def test_embeddings_at_the_origin_are_drawn():
    collapsed = Scatter("x", np.zeros((3, 2)), np.zeros(3, np.int64), np.zeros((1, 1, 2)), ("a",))
    assert scatter([collapsed], "digits").axes[0].get_xlim() == (-1.25, 1.25)


def test_the_same_bytes_every_time():
    draw = lambda: scatter([panel([0, 90], [0, 1], [[0], [90]])], "digits")  # noqa: E731
    assert rendered(draw) == rendered(draw)
