import numpy as np
import pytest
import torch

from dml_bench.errors import DataError
from dml_bench.models.backbone import BACKBONES
from dml_bench.models.embedder import build_embedder
from dml_bench.recipe.schema import Embedding

MOMENTS = ([0.4], [0.2])


def build(seed=0, shape=(28, 28, 1), **head):
    moments = ([0.4] * shape[2], [0.2] * shape[2])
    return build_embedder({"name": "convnet"}, Embedding(dim=64, **head), shape, moments, seed)


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 40, 3)])
def test_any_image_size_and_channels(shape):
    height, width, channels = shape
    assert build(shape=shape)(torch.rand(2, channels, height, width)).shape == (2, 64)


def test_size_of_the_default_network():
    assert 100_000 < sum(p.numel() for p in build().parameters()) < 1_000_000


def test_output_is_the_raw_linear_output():
    norms = build()(torch.rand(16, 1, 28, 28)).norm(dim=1)
    assert norms.std() > 0


def test_layer_norm_has_no_parameters_and_normalises_the_features():
    network = build(layer_norm=True).eval()
    images = torch.rand(3, 1, 28, 28)
    features = network.backbone((images - 0.4) / 0.2)
    scaled = (features - features.mean(1, keepdim=True)) / (features.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(network(images), network.head(scaled))
    assert len(list(network.parameters())) == len(list(build().parameters()))


def test_the_head_is_drawn_as_the_recipe_says():
    head, other = (build(layer_norm=False, init=init).head for init in ("uniform", "fan_out"))
    bound = head.in_features**-0.5
    assert head.weight.abs().max() <= bound < other.weight.abs().max()
    assert abs(other.weight.var().item() / (2 / 64) - 1) < 0.05
    assert not other.bias.any()
    assert head.bias.any()


@pytest.mark.parametrize(("normalize", "expected"), [("half", [-1.0, 1.0]), ("imagenet", [-2.117904, 2.64])])
def test_the_input_is_what_the_recipe_says(normalize, expected):
    model = build_embedder({"name": "pixels"}, Embedding(), (16, 16, 3), ([0.4] * 3, [0.2] * 3), 0, normalize)
    images = torch.stack([torch.zeros(3, 16, 16), torch.ones(3, 16, 16)])
    normalised = (images - model.mean) / model.std
    assert normalised.min() == pytest.approx(expected[0], abs=1e-5)
    assert normalised.max() == pytest.approx(expected[1], abs=1e-5)


def test_weights_come_from_the_seed_alone():
    torch.manual_seed(1)
    first = build(seed=3).state_dict()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = build(seed=3).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], build(seed=4).state_dict()["head.weight"])


def test_pixels_average_the_image_down():
    image = torch.arange(32 * 32).reshape(1, 1, 32, 32) / 1024
    network = build_embedder({"name": "pixels"}, None, (32, 32, 1), MOMENTS, 0)
    expected = np.asarray(image[0, 0]).reshape(16, 2, 16, 2).mean((1, 3)).ravel()
    np.testing.assert_allclose(network(image)[0], expected, rtol=1e-6)
    assert network.embedding_dim == 256


def test_too_small_an_image_is_an_error():
    with pytest.raises(DataError, match="at least 8x8 pixels, not 7x9"):
        BACKBONES.build("convnet", (7, 9, 1))


def test_a_head_without_a_linear_layer_is_the_features_normalised_if_asked():
    network = build_embedder({"name": "convnet"}, Embedding(dim=None, layer_norm=True), (32, 32, 1), MOMENTS, 0)
    assert not list(network.head.parameters()) and network.embedding_dim == network.backbone.features
    embeddings = network.eval()(torch.rand(4, 1, 32, 32)).detach()
    assert embeddings.shape == (4, 128)
    torch.testing.assert_close(embeddings.mean(1), torch.zeros(4), atol=1e-5, rtol=0)


def test_a_head_may_lack_a_bias():
    network = build_embedder({"name": "convnet"}, Embedding(dim=8, bias=False), (32, 32, 1), MOMENTS, 0)
    assert [name for name, _ in network.head.named_parameters()] == ["weight"]
