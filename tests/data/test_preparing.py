"""An image file is prepared as the test images of a data set were: compared with what the data sets themselves made."""

import io

import numpy as np
import pytest
from PIL import Image

from dml_bench.data.catalog import LISTINGS
from dml_bench.data.dataset import DATASETS
from dml_bench.data.listing import TEST
from dml_bench.data.preparing import preparation
from dml_bench.errors import DataError


def png(pixels, **how):
    stream = io.BytesIO()
    Image.fromarray(np.squeeze(pixels)).save(stream, format="PNG", **how)
    return stream.getvalue()


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setenv("DML_BENCH_CACHE", "off")
    rng = np.random.default_rng(0)
    for label in "abcd":
        for i in range(3):
            path = tmp_path / "photos" / label / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(rng.integers(0, 256, (41 + i, 60, 3), dtype=np.uint8)))
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "rgb, short side resized to 64 pixels, central 64 x 64 cut out"),
        ({"image_size": 16, "resize": 20}, "rgb, short side resized to 20 pixels, central 16 x 16 cut out"),
        ({"image_size": 16, "square": True}, "rgb, both sides resized to 16 pixels, central 16 x 16 cut out"),
        ({"image_size": 24, "color": "grey"}, "grey, short side resized to 24 pixels, central 24 x 24 cut out"),
    ],
)
def test_a_photo_becomes_what_its_data_set_tests_with(photos, options, said):
    split = DATASETS.build("folder", None, path=str(photos), **options)
    prepare = preparation({"name": "folder", "path": str(photos), **options}, split.test.image_shape)
    assert prepare.said == said
    listing = LISTINGS.build("folder", None, path=str(photos))
    for row, place in enumerate(listing.part(TEST)):
        data = (photos / listing.paths[place]).read_bytes()
        np.testing.assert_array_equal(prepare(data, "x"), split.test.images[row])


@pytest.mark.parametrize("name", ["digits", "glyphs"])
def test_what_has_the_size_already_keeps_every_pixel(name):
    part = DATASETS.build(name, None).test
    prepare = preparation({"name": name}, part.image_shape)
    np.testing.assert_array_equal(prepare(png(part.images[7]), "x"), part.images[7])
    colored = np.repeat(part.images[7], 3, axis=2)
    np.testing.assert_array_equal(prepare(png(colored), "x"), part.images[7])


def test_a_digit_of_8_pixels_is_enlarged_as_the_data_set_does():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    first = np.flatnonzero(bunch.target >= 5)[0]
    small = np.rint(bunch.images[first] * (255 / 16)).astype(np.uint8)
    part = DATASETS.build("digits", None).test
    np.testing.assert_array_equal(preparation({"name": "digits"}, (16, 16, 1))(png(small), "x"), part.images[0])


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_arrays_are_resized_by_the_filter_of_their_data_sets(name):
    from dml_bench.data.arrays import _lanczos

    channels = 1 if name == "mnist" else 3
    image = np.random.default_rng(0).integers(0, 256, (1, 28, 28, channels), dtype=np.uint8)
    found = preparation({"name": name}, (20, 20, channels))(png(image[0]), "x")
    np.testing.assert_array_equal(found, _lanczos(image, 20)[0])


def test_a_drawing_of_omniglot_is_inverted(data_root):
    from dml_bench.data.omniglot import _decode

    listing = LISTINGS.build("omniglot", data_root)
    paths = [listing.paths[row] for row in listing.part(TEST)[:3]]
    made = _decode(listing, paths, 28)
    prepare = preparation({"name": "omniglot", "image_size": 28}, (28, 28, 1))
    for data, expected in zip(listing.source.read(paths), made, strict=True):
        np.testing.assert_array_equal(prepare(data, "x"), expected)
        assert expected.mean() < 128  # ink bright on black


def test_a_data_set_of_a_plug_in_takes_its_own_size_only():
    prepare = preparation({"name": "of_a_plug_in"}, (4, 6, 3))
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    np.testing.assert_array_equal(prepare(png(image), "x"), image)
    with pytest.raises(DataError, match=r"mine\.png: must be 6 x 4 pixels, not 4 x 6"):
        prepare(png(image.transpose(1, 0, 2)), "mine.png")


def test_features_cannot_be_made_of_an_image():
    with pytest.raises(DataError, match="embeddings: was run on features"):
        preparation({"name": "embeddings"}, (512,))


def test_boxes_are_said_not_to_be_cut():
    assert preparation({"name": "cub200", "boxes": True}, (64, 64, 3)).said.endswith("not cut to a box")
