from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dml_bench.data.dataset import ImageSet
from dml_bench.data.folds import folds
from dml_bench.data.pictures import LazyImages, UniformPhotos
from dml_bench.errors import DataError


def training(classes):
    labels = np.repeat(np.arange(classes), 3)
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    return ImageSet(np.ascontiguousarray(images), labels, tuple(f"class {n}" for n in range(classes)))


@given(st.integers(2, 6), st.integers(12, 40), st.integers(0, 9))
def test_every_class_is_held_out_once_and_never_trained_on_then(k, classes, seed):
    train = training(classes)
    held_out = []
    for split in folds(train, k, seed):
        assert not set(split.train.class_names) & set(split.test.class_names)
        assert len(split.train) + len(split.test) == len(train)
        for part in (split.train, split.test):
            names = [part.class_names[label] for label in part.labels]
            assert names == [f"class {value // 3}" for value in part.images[:].ravel()]
        assert split.test.num_classes in (classes // k, -(-classes // k))
        held_out += split.test.class_names
    assert sorted(held_out) == sorted(train.class_names)


def test_lazy_photos_with_super_classes_stay_so():
    plain = training(12)
    lazy = LazyImages(plain.images.shape, lambda rows: plain.images[rows])
    train = replace(
        plain, images=lazy, groups=plain.labels // 4, known_digest=plain.digest, whole=lambda side: UniformPhotos(lazy)
    )
    for split, same in zip(folds(train, 3), folds(plain, 3), strict=True):
        assert split.digest == same.digest
        for part in (split.train, split.test):
            classes = [int(name.split()[1]) for name in part.class_names]
            assert part.groups.tolist() == [classes[label] // 4 for label in part.labels]
            assert [photo.ravel()[0] // 3 for photo in part.photos(8).take(np.arange(len(part)))] == [
                classes[label] for label in part.labels
            ]


def test_the_seed_decides():
    first, again, other = ([s.digest for s in folds(training(20), 4, seed)] for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(("k", "classes"), [(1, 10), (6, 10), (4, 7)])
def test_too_small_folds_are_refused(k, classes):
    with pytest.raises(DataError, match="of 2 classes or more"):
        list(folds(training(classes), k))
