"""Images to embeddings: normalise the input, run the backbone, apply the linear head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dml_bench.errors import DataError
from dml_bench.models.backbone import BACKBONES
from dml_bench.randomness import derive_seed
from dml_bench.recipe.check import FEATURE_BACKBONES
from dml_bench.recipe.schema import Embedding

INPUTS = {
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "half": ([0.5] * 3, [0.5] * 3),
    "caffe": ([128 / 255, 117 / 255, 104 / 255], [1 / 255] * 3),
}
"""Mean and deviation (red, green, blue) that pretrained networks expect; Caffe's are of values from 0 to 255."""


class Embedder(nn.Module):
    """A backbone with a linear head. Its raw output is returned; losses and evaluation normalise as they need.

    Args:
        backbone: maps normalised images to features.
        head: maps features to embeddings.
        embedding_dim: D of these.
        layer_norm: whether to apply LayerNorm without parameters to the features first.
        mean, std: subtracted from the input and divided by: ``(C, 1, 1)`` for images in [0, 1], ``(D,)`` for features.
        bgr: whether the channels are put in the order blue, green, red, after that.

    Attributes:
        held: modules that stay in evaluation mode; see ``freezing.freeze``.
        resting: parameters that get no gradient for now; see ``freezing.head_only``.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        embedding_dim: int,
        layer_norm: bool,
        mean: Tensor,
        std: Tensor,
        bgr: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.layer_norm = layer_norm
        self.bgr = bgr
        self.embedding_dim = embedding_dim
        self.held: list[nn.Module] = []
        self.resting: list[nn.Parameter] = []
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    @property
    def weights_digest(self) -> str:
        """The sha256 of the file that the backbone began from; empty if it began from random weights."""
        return str(getattr(self.backbone, "weights_digest", ""))

    def train(self, mode: bool = True) -> Embedder:
        """Switch to training mode, or to evaluation mode; what is held stays in evaluation mode."""
        super().train(mode)
        for module in self.held:
            module.training = False
        return self

    def forward(self, images: Float[Tensor, "N ..."]) -> Float[Tensor, "N D"]:
        """Map images in [0, 1], or features, to embeddings of any length."""
        images = (images - self.mean) / self.std
        features = self.backbone(images.flip(1) if self.bgr else images)
        if self.layer_norm:
            features = F.layer_norm(features, features.shape[1:])
        embeddings: Tensor = self.head(features)
        return embeddings


def build_embedder(
    backbone: Mapping[str, Any],
    head: Embedding | None,
    image_shape: tuple[int, ...],
    moments: tuple[list[float], list[float]],
    seed: int,
    normalize: str = "dataset",
) -> Embedder:
    """Build the network of a recipe, with weights drawn from ``seed`` alone.

    Args:
        backbone: a registered name with its options.
        head: the end of the network; None gives the backbone's features, of unnormalised images unless it has weights.
        image_shape: height, width and channels; of features, how many.
        moments: means and deviations of the training images in [0, 1], or of the features.
        seed: of the run.
        normalize: ``dataset`` for ``moments``, ``none`` for nothing, or one of ``INPUTS``.

    Raises:
        DataError: if the images are grey and ``normalize`` is for color, or the network cannot take features.
    """
    options = {key: value for key, value in backbone.items() if key != "name"}
    channels = image_shape[-1]
    if len(image_shape) == 1 and backbone["name"] not in FEATURE_BACKBONES:
        allowed = " and ".join(FEATURE_BACKBONES)
        raise DataError(f"backbone {backbone['name']} needs images; {channels} features are for {allowed}")
    if normalize in INPUTS and (channels != 3 or len(image_shape) == 1):
        raise DataError(f"normalize: {normalize} needs images with three channels, not {channels}")
    raw = head is None and options.get("weights") is None
    as_it_is = [0.0] * channels, [1.0] * channels
    mean, std = as_it_is if raw or normalize == "none" else INPUTS.get(normalize, moments)
    bgr = normalize == "caffe" and not raw
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        network: Any = BACKBONES.build(backbone["name"], image_shape, **options)
        end = head or Embedding(dim=None)
        dim = end.dim or network.features
        layer = nn.Identity() if end.dim is None else _linear(network.features, dim, end)
        shape = (-1,) if len(image_shape) == 1 else (-1, 1, 1)
        less, by = (torch.tensor(values).reshape(shape) for values in (mean, std))
        return Embedder(network, layer, dim, end.layer_norm, less, by, bgr)


def _linear(features: int, dim: int, head: Embedding) -> nn.Linear:
    layer = nn.Linear(features, dim, bias=head.bias)
    if head.init == "fan_out":
        nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        if head.bias:
            nn.init.zeros_(layer.bias)
    return layer
