import numpy as np
import pytest
from matplotlib.ft2font import FT2Font
from PIL import Image

from dml_bench.data import glyphs
from dml_bench.data.dataset import DATASETS
from dml_bench.errors import DataError, OptionError


@pytest.fixture(scope="module")
def chosen():
    return glyphs.distinct_characters(glyphs.font_files(), 300)


@pytest.fixture(scope="module")
def small():
    return DATASETS.build("glyphs", None, characters=40)


def characters(part):
    return [name.split()[1] for name in part.class_names]


def test_every_character_is_in_every_font_with_ink(chosen):
    for font in glyphs.font_files():
        assert chosen.keys() <= FT2Font(str(font)).get_charmap().keys()
    assert all(len(ink) == 12 and all(np.asarray(image).any() for image in ink) for ink in chosen.values())


@pytest.mark.parametrize("group", ["AΑА", "oO0οоО", "cCсС", "xXхХΧ", "BΒВ", "IΙІl", "vV", "sSѕЅ", "PΡР", "HНΗн"])
def test_of_look_alikes_at_most_one_is_kept(chosen, group):
    assert sum(ord(character) in chosen for character in group) <= 1


def test_plainly_different_characters_are_kept(chosen):
    assert all(ord(character) in chosen for character in "ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghkmpqrt1245789ΔΣΨΩЂЉДИ")


def test_default_size_split_and_modes():
    split = DATASETS.build("glyphs", None)
    train, test = characters(split.train), characters(split.test)
    assert (len(train), len(test), len(set(train) & set(test))) == (150, 150, 0)
    for part in (split.train, split.test):
        assert part.image_shape == (32, 32, 1)
        assert set(part.class_counts.tolist()) == {24}
    for ordinary in ("abdefghk", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "АБВДИЛЦ"):
        assert not set(ordinary) <= set(train)


def test_images_are_legible(small):
    images = small.train.images[..., 0].astype(np.float64)
    peaks = np.sort(images.reshape(len(images), -1), axis=1)[:, -20:].mean(axis=1)
    assert np.quantile(peaks, 0.02) > 90  # strokes stand out of noise that is at most 38
    rows, columns = np.mgrid[:32, :32]
    bright = np.where(images > 100, images, 0)
    mass = bright.sum(axis=(1, 2))
    for axis in (rows, columns):
        centre = (bright * axis).sum(axis=(1, 2)) / mass
        assert 14 < centre.mean() < 17
        assert centre.std() < 4
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    assert (border > 150).mean() < 0.01


def test_the_same_seed_gives_the_same_pixels_and_another_others(small, monkeypatch, tmp_path):
    monkeypatch.setenv("DML_BENCH_CACHE", str(tmp_path))
    assert DATASETS.build("glyphs", None, characters=40).digest == small.digest
    other = DATASETS.build("glyphs", None, characters=40, seed=1)
    assert other.digest != small.digest
    assert set(characters(other.train)) != set(characters(small.train))
    assert {*characters(other.train), *characters(other.test)} == {*characters(small.train), *characters(small.test)}


def test_asking_for_more_characters_changes_no_image(small):
    def by_name(split):
        return {n: p.images[p.labels == i] for p in (split.train, split.test) for i, n in enumerate(p.class_names)}

    few, more = by_name(small), by_name(DATASETS.build("glyphs", None, characters=60))
    assert few.keys() < more.keys()
    assert all(np.array_equal(few[name], more[name]) for name in few)


def test_size_and_copies_follow_the_options():
    split = DATASETS.build("glyphs", None, characters=5, images_per_face=3, image_size=20)
    assert (split.train.num_classes, split.test.num_classes) == (2, 3)
    assert split.train.images.shape == (2 * 36, 20, 20, 1)


def test_a_distorted_square_stays_on_the_image_and_near_its_size():
    square = Image.new("L", (40, 40), 255)
    areas = [(glyphs.distort(square, 32, np.random.default_rng(i)) > 127).sum() for i in range(100)]
    side = 32 * glyphs.INK
    assert (side * 0.75) ** 2 * 0.85 < min(areas)
    assert max(areas) < (side * 1.15) ** 2 * 1.15
    assert np.mean(areas) == pytest.approx(side**2 * 0.92, rel=0.1)


def test_fewer_characters_than_asked_for_is_an_error_with_the_number(monkeypatch):
    monkeypatch.setattr(glyphs, "_candidates", lambda fonts: iter(map(ord, "AΑBb\u2000C")))
    with pytest.raises(DataError, match=r"have 4 distinct characters, fewer than the 300"):
        glyphs.distinct_characters(glyphs.font_files(), 300)


def test_a_missing_font_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("matplotlib.get_data_path", lambda: str(tmp_path))
    with pytest.raises(DataError, match=r"DejaVuSans\.ttf: this font, which comes with matplotlib"):
        DATASETS.build("glyphs", None)


@pytest.mark.parametrize("options", [{"characters": 1001}, {"characters": 3}, {"image_size": 8}, {"seed": -1}])
def test_wrong_glyph_options_are_refused(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        DATASETS.build("glyphs", None, **options)
