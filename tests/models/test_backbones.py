"""What every backbone for images is held to."""

import pytest
import torch

from dml_bench.models.backbone import BACKBONES
from dml_bench.models.embedder import build_embedder
from dml_bench.recipe.schema import Embedding

SHAPE = (64, 64, 3)
TRAINED = ("bn_inception", "convnet")


def build(name, dim=16):
    return build_embedder({"name": name}, Embedding(dim=dim), SHAPE, ([0.5] * 3, [0.25] * 3), seed=0)


def images(count=4):
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [*TRAINED, "pixels"])
def test_features_are_as_many_as_it_says(name):
    backbone = BACKBONES.build(name, SHAPE)
    assert backbone.eval()(images()).shape == (4, backbone.features)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("dim", [2, 2048])
def test_heads_of_any_dimension(name, dim):
    assert build(name, dim).eval()(images()).shape == (4, dim)


@pytest.mark.parametrize("name", TRAINED)
def test_every_parameter_gets_a_finite_gradient(name):
    model = build(name).train()
    model(images()).square().sum().backward()
    gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
    assert not [key for key, gradient in gradients.items() if gradient is None or not gradient.isfinite().all()]


@pytest.mark.parametrize("name", TRAINED)
def test_an_image_is_embedded_alike_in_any_company(name):
    model = build(name).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(images())[2:3], model(images()[2:3]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TRAINED)
def test_a_state_goes_round(name):
    model, other = build(name), build_embedder({"name": name}, Embedding(dim=16), SHAPE, ([0.1] * 3, [0.5] * 3), seed=1)
    model.train()(images())
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(model.eval()(images()), other.eval()(images()))


@pytest.mark.parametrize("name", TRAINED)
def test_channels_last_is_a_layout_and_nothing_else(name):
    model = build(name).eval()
    with torch.no_grad():
        expected = model(images())
        model.to(memory_format=torch.channels_last)
        torch.testing.assert_close(
            model(images().contiguous(memory_format=torch.channels_last)), expected, rtol=1e-3, atol=1e-4
        )
