import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from dml_bench.reports.answers import Answer, Block, Gallery, Shown
from dml_bench.retrieval.page import data_uri, to_page

HOSTILE = "\"><script>alert(1)</script><img src=x onerror='a()'>"
RNG = np.random.default_rng(0)


class Tags(HTMLParser):
    """Which tags there are with their attributes, and the text outside of styles."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_inlined_pixel_by_pixel(channels):
    image = RNG.integers(0, 256, (5, 7, channels), dtype=np.uint8)
    kind, _, content = data_uri(image).partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as read:
        np.testing.assert_array_equal(np.asarray(read).reshape(image.shape), image)


def test_names_stay_text_and_nothing_is_asked_for():
    image = np.zeros((2, 2, 3), np.uint8)
    tiles = tuple(Shown(image, HOSTILE, "0.5", right) for right in (None, True, False))
    page = to_page(Gallery(f"{HOSTILE}\n{HOSTILE}", (Block(HOSTILE, (Answer(Shown(image, HOSTILE), tiles),)),)))
    found = Tags(page)
    assert {tag for tag, _ in found.tags}.isdisjoint({"script", "link", "iframe"})
    images = [attrs for tag, attrs in found.tags if tag == "img"]
    assert len(images) == 4 and all(set(attrs) == {"src", "alt"} and attrs["alt"] == HOSTILE for attrs in images)
    assert all(attrs["src"].startswith("data:") for attrs in images)
    assert found.text.count(HOSTILE) == 8
    assert not re.search(r"https?:|@import|url\(", page)
    assert [attrs["class"] for tag, attrs in found.tags if tag == "figure"] == ["query", "", "right", "wrong"]
    assert ("✓ " in found.text, "✗ " in found.text) == (True, True)
