from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from dml_bench.data.dataset import DATASETS
from dml_bench.data.duplicates import looks, near_duplicates


def scenes(count, side=64, seed=0):
    """Smooth random pictures, none like another."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((side, side), Image.Resampling.BICUBIC)) for c in coarse])


def jpeg(picture, quality=30):
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


CHANGES = {
    "exact": lambda p: p,
    "jpeg": jpeg,
    "smaller": lambda p: p.resize((24, 24)).resize(p.size),
    "brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.1),
    "grey": lambda p: p.convert("L").convert("RGB"),
    "cut": lambda p: p.crop((1, 1, p.width - 1, p.height - 1)).resize(p.size),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found(change):
    train, test = scenes(40), scenes(30, seed=1)
    copy = np.asarray(CHANGES[change](Image.fromarray(train[7])))
    found = near_duplicates(train, np.concatenate([test, copy[None]]))
    assert [(pair.train, pair.test) for pair in found] == [(7, 30)]


def test_different_pictures_are_not_alike():
    assert near_duplicates(scenes(60), scenes(60, seed=1)) == []


def test_pairs_are_those_of_plain_loops():
    train, test = scenes(20, 20), scenes(15, 20, seed=1)
    (hashes, small), (theirs, their_small) = looks(train), looks(test)
    expected = {
        (i, j)
        for i in range(20)
        for j in range(15)
        if (hashes[i] != theirs[j]).sum() <= 28 and np.corrcoef(small[i], their_small[j])[0, 1] >= 0.1
    }
    assert expected
    assert {(p.train, p.test) for p in near_duplicates(train, test, bits=28, likeness=0.1)} == expected


def test_the_hash_is_the_sign_of_horizontal_gradients():
    ramp = np.tile(np.arange(0, 252, 4, dtype=np.uint8), (63, 1))[None, :, :, None]
    assert (looks(ramp)[0] == 1).all()
    assert (looks(ramp[:, :, ::-1])[0] == -1).all()


def test_plain_images_resemble_nothing():
    plain = np.full((3, 64, 64, 1), 128, dtype=np.uint8)
    assert near_duplicates(plain, plain) == []


DATA = os.environ.get("DML_BENCH_DATA")


@pytest.mark.skipif(not DATA, reason="DML_BENCH_DATA is not set")
@pytest.mark.parametrize("name, options", [("caltech101", {"partial": True}), ("grocery_store", {})])
def test_real_photos_of_different_classes_are_not_taken_for_duplicates(name, options):
    if not (Path(DATA) / name).is_dir():
        pytest.skip(f"{name} is not here")
    split = DATASETS.build(name, Path(DATA), **options)
    train, test = split.train.images[::4], split.test.images[::4]
    assert near_duplicates(train, test) == []
    saved = np.stack([np.asarray(jpeg(Image.fromarray(image))) for image in train[:50]])
    found = near_duplicates(train, saved)
    assert len({pair.test for pair in found if pair.train == pair.test}) >= 47
