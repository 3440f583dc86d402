"""The numbers that reach the backbone, against the papers' formulas in plain numpy."""

import numpy as np
import pytest
import torch

from dml_bench.data.augment import to_float
from dml_bench.data.dataset import ImageSet
from dml_bench.errors import DataError
from dml_bench.models.embedder import build_embedder
from dml_bench.recipe.schema import Embedding


@pytest.fixture(scope="module")
def train():
    rng = np.random.default_rng(0)
    images = rng.integers((0, 40, 90), (150, 200, 256), (60, 8, 8, 3)).astype(np.uint8)
    return ImageSet(images, np.arange(60) % 4, tuple("abcd"))


def reached(train, normalize):
    """Return what the backbone is given, ``(N, H, W, C)``."""
    head = Embedding(dim=4)
    network = build_embedder({"name": "convnet", "width": 4}, head, train.image_shape, train.moments, 0, normalize)
    given = []
    network.backbone.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    network.eval()(to_float(torch.from_numpy(train.images[:])))
    return given[0].numpy().transpose(0, 2, 3, 1)


def test_data_set(train):
    pixels = train.images.astype(np.float64)
    expected = (pixels - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2))
    np.testing.assert_allclose(reached(train, "dataset"), expected, atol=1e-4)


def test_imagenet(train):
    expected = (train.images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(reached(train, "imagenet"), expected, atol=1e-5)


def test_caffe_is_blue_green_red_from_0_to_255(train):
    expected = train.images[..., ::-1].astype(np.float64) - [104, 117, 128]
    np.testing.assert_allclose(reached(train, "caffe"), expected, atol=1e-3)


@pytest.mark.parametrize("normalize", ["imagenet", "caffe"])
def test_grey_images_have_no_such_numbers(normalize):
    grey = ImageSet(np.zeros((4, 8, 8, 1), np.uint8), np.arange(4), tuple("abcd"))
    with pytest.raises(DataError, match=f"normalize: {normalize} needs images with three channels, not 1"):
        reached(grey, normalize)
