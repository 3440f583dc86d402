import io

import numpy as np
import pytest
from PIL import Image

from dml_bench.data.decoding import SquareShrink, SquareTransform
from dml_bench.data.photo import centre_crop, read_photo, resize
from dml_bench.errors import DataError

RED = (200, 30, 40)


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixel(data, color="rgb"):
    return np.asarray(read_photo(data, "some.file", color))[2, 2].tolist()


def test_transparent_pixels_show_white_paper_in_every_mode():
    clear = Image.new("RGBA", (8, 8), (*RED, 0))
    assert pixel(encoded(clear)) == [255, 255, 255]
    assert pixel(encoded(Image.new("LA", (8, 8), (10, 0)))) == [255, 255, 255]
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([*RED, 0, 0, 0])
    assert pixel(encoded(palette)) == list(RED)
    assert pixel(encoded(palette, transparency=0)) == [255, 255, 255]
    half = pixel(encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 128))))
    assert half == pytest.approx([127] * 3, abs=1)


def test_16_bits_keep_their_brightness():
    for level in (0, 257 * 100, 65535):
        image = Image.fromarray(np.full((8, 8), level, dtype=np.uint16))
        assert pixel(encoded(image)) == [round(level / 257)] * 3
        assert np.asarray(read_photo(encoded(image, "TIFF"), "f", "grey"))[0, 0] == round(level / 257)


def test_cmyk_means_ink():
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert np.abs(np.array(pixel(encoded(ink, "JPEG", quality=100))) - [255, 0, 0]).max() <= 3


def test_exif_orientation_turns_the_photo_upright():
    pixels = np.zeros((8, 16, 3), dtype=np.uint8)
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = read_photo(encoded(Image.fromarray(pixels), "JPEG", exif=exif), "f")
    assert photo.size == (8, 16)
    assert np.asarray(photo)[1, 4].min() > 250 and np.asarray(photo)[14, 4].max() < 5


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
def test_a_file_cut_short_is_an_error_that_names_it(kind):
    data = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)), kind)
    for length in (0, 5, len(data) // 2):
        with pytest.raises(DataError, match=r"folder/some\.file: not a readable image"):
            read_photo(data[:length], "folder/some.file")


def test_boxes_are_cut_and_clipped():
    pixels = np.arange(100, dtype=np.uint8).reshape(10, 10)
    data = encoded(Image.fromarray(pixels))
    np.testing.assert_array_equal(np.asarray(read_photo(data, "f", "grey", (2.0, 3.0, 5.0, 99.0))), pixels[3:, 2:5])
    with pytest.raises(DataError, match="holds no pixel"):
        read_photo(data, "f", "grey", (20.0, 0.0, 30.0, 5.0))


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (300, 300), (64, 301)])
def test_the_test_time_transform_is_torchvisions(width, height):
    """Resize(256) and CenterCrop(224) as torchvision publishes them, computed by Pillow."""
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8))
    short, long = min(width, height), max(width, height)
    new = (256, int(256 * long / short)) if width <= height else (int(256 * long / short), 256)
    theirs = image.resize(new, Image.Resampling.BILINEAR)
    top, left = round((new[1] - 224) / 2.0), round((new[0] - 224) / 2.0)
    theirs = theirs.crop((left, top, left + 224, top + 224))
    np.testing.assert_array_equal(np.asarray(centre_crop(resize(image, 256), 224)), np.asarray(theirs))


def test_a_square_transform_changes_the_shape_of_things():
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8))
    squeezed = photo.resize((20, 20), Image.Resampling.BILINEAR)
    expected = np.asarray(squeezed.crop((2, 2, 18, 18)))
    np.testing.assert_array_equal(SquareTransform(20, 16, "rgb")(photo), expected)
    whole = np.asarray(photo.resize((24, 24), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(SquareShrink(24)(photo), whole)
