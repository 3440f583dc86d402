import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dml_bench.reports.answers import Answer, Block, Gallery, Shown
from dml_bench.reports.plots.gallery import drawn_gallery, gallery_figure
from dml_bench.reports.style import SETTINGS

RNG = np.random.default_rng(0)


def tile(name="a class", right=None, shape=(12, 12, 3), note=""):
    return Shown(RNG.integers(0, 256, shape, dtype=np.uint8), name, note, right)


def gallery(found=8, name="a class", shape=(12, 12, 3), heading="Best"):
    items = tuple(tile(name, i % 3 > 0, shape) for i in range(found))
    return Gallery(
        "a title\nand more", (Block(heading, (Answer(tile(name, shape=shape, note="first right: 1"), items),) * 2),)
    )


def figure_of(shown):
    with matplotlib.rc_context(SETTINGS):
        figure = gallery_figure(shown)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return figure, canvas.get_renderer()


def test_right_and_wrong_differ_by_mark_and_line_as_well_as_by_color():
    figure, _ = figure_of(gallery())
    (paper,) = figure.axes
    _, _, query, *texts = [text.get_text() for text in paper.texts[:11]]
    assert query == "a class\nfirst right: 1"
    frames = [(frame.get_linestyle(), frame.get_edgecolor()) for frame in paper.patches[1:9]]
    looks = [(text[0], *frame) for text, frame in zip(texts, frames, strict=True)]
    assert [mark for mark, *_ in looks] == ["✗", "✓", "✓", "✗", "✓", "✓", "✗", "✓"]
    wrong, right = {look[1:] for look in looks if look[0] == "✗"}, {look[1:] for look in looks if look[0] == "✓"}
    ((dashes, red),), ((solid, blue),) = wrong, right
    assert solid == "-" and dashes != "-" and red != blue


@pytest.mark.parametrize("channels", [1, 3])
def test_small_images_keep_their_pixels_and_their_shape_and_large_ones_are_reduced(channels):
    shown = gallery(1, shape=(12, 10, channels))
    image = figure_of(shown)[0].axes[0].images[0]
    expected = shown.blocks[0].answers[0].query.image
    np.testing.assert_array_equal(image.get_array(), expected[:, :, 0] if channels == 1 else expected)
    left, right, bottom, top = image.get_extent()
    assert (right - left) / (top - bottom) == pytest.approx(10 / 12)
    assert image.get_clim() == (0, 255)
    large = figure_of(gallery(1, shape=(300, 150, channels)))[0].axes[0].images[0]
    assert large.get_array().shape[:2] == (112, 56)


@pytest.mark.parametrize("found", [1, 8, 19])
@pytest.mark.parametrize("name", ["x", "011.A_very_long_name_of_some_bird/of_the_far_north", "w" * 60, "a b\tc " * 9])
def test_nothing_is_clipped_and_no_text_covers_another(found, name):
    figure, renderer = figure_of(gallery(found, name, heading="" if found == 1 else "Best"))
    (paper,) = figure.axes
    boxes = [part.get_window_extent(renderer) for part in (*paper.patches, *paper.texts)]
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, i
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, i
        assert not any(box.overlaps(other) for other in boxes[i + 1 :]), i


def test_bytes_are_the_same_every_time_and_text_is_text():
    shown = gallery(2, "日本 <b> $x$ & ✓")
    first = drawn_gallery(shown)
    assert drawn_gallery(shown) == first
    svg = ET.fromstring(first["svg"])
    texts = ["".join(node.itertext()) for node in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert sum("日本 <b> $x$ & ✓" in text for text in texts) == 6
    assert set(drawn_gallery(shown, ["pdf"])) == {"pdf"}
