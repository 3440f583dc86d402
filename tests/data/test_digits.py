import numpy as np
import pytest
from sklearn.datasets import load_digits

from dml_bench.data.dataset import DATASETS
from dml_bench.errors import OptionError


def test_the_split_is_by_class_and_the_original_pixels_are_there():
    split = DATASETS.build("digits", None, image_size=8)
    bunch = load_digits()
    for part, classes in ((split.train, range(5)), (split.test, range(5, 10))):
        chosen = np.isin(bunch.target, classes)
        assert part.class_names == tuple(map(str, classes))
        np.testing.assert_array_equal(part.labels, bunch.target[chosen] - classes[0])
        np.testing.assert_allclose(part.images[..., 0] / 255 * 16, bunch.images[chosen], atol=0.04)
    assert (len(split.train), len(split.test)) == (901, 896)


def test_enlarging_keeps_what_is_seen():
    small, large = DATASETS.build("digits", None, image_size=8), DATASETS.build("digits", None)
    assert large.train.image_shape == (16, 16, 1)
    halved = large.train.images[..., 0].reshape(-1, 8, 2, 8, 2).mean(axis=(2, 4))
    correlation = np.corrcoef(halved.ravel(), small.train.images.ravel())[0, 1]
    assert correlation > 0.97


@pytest.mark.parametrize("size", [7, 65, "16"])
def test_wrong_digit_sizes_are_refused(size):
    with pytest.raises(OptionError, match="image_size"):
        DATASETS.build("digits", None, image_size=size)
