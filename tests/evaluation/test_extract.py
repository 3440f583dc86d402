import numpy as np
import pytest
import torch
from torch import nn

from dml_bench.errors import DataError
from dml_bench.evaluation.extract import extract

IMAGES = np.random.default_rng(0).integers(0, 256, size=(23, 4, 4, 3), dtype=np.uint8)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Dropout(0.5), nn.Flatten(), nn.Linear(20, 6))


def test_pixels_come_through_as_fractions_with_channels_first():
    embeddings = extract(nn.Flatten(), IMAGES, batch_size=5)
    expected = np.moveaxis(IMAGES, 3, 1).reshape(23, -1) / 255
    assert embeddings.dtype == np.float32
    assert embeddings == pytest.approx(expected)


@pytest.mark.parametrize("batch_size", [1, 7, 23, 512])
def test_the_batch_size_does_not_matter(batch_size):
    model = network()
    assert extract(model, IMAGES, batch_size=batch_size) == pytest.approx(extract(model, IMAGES), abs=1e-6)


def test_the_model_is_left_as_it_was():
    model = network().train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    extract(model, IMAGES)
    assert [module.training for module in model.modules()] == [True, True, False, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_mode_comes_back_after_a_failure():
    model = nn.Sequential(nn.Flatten(), nn.Linear(7, 2))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        extract(model, IMAGES)
    assert model.training
    assert model[1].training


def test_a_read_only_memory_map_will_do(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert (extract(nn.Flatten(), mapped) == extract(nn.Flatten(), IMAGES)).all()


def test_half_precision_output_becomes_float32():
    class Half(nn.Module):
        def forward(self, images):
            return images.flatten(1).bfloat16()

    assert extract(Half(), IMAGES).dtype == np.float32


@pytest.mark.parametrize("model", [nn.Identity(), nn.Flatten(0)])
def test_anything_but_a_vector_per_image_is_refused(model):
    with pytest.raises(DataError, match=r"must map 23 images to \(23, D\), not"):
        extract(model, IMAGES)


def test_no_image_is_refused():
    with pytest.raises(DataError, match="no image"):
        extract(nn.Flatten(), IMAGES[:0])


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        extract(nn.Flatten(), IMAGES, batch_size=0)
