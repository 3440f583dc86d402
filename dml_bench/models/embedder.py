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
        backbone: maps normalised images to ``features`` numbers each.
        dim: embedding dimension D, or None to return the features themselves.
        layer_norm: whether to apply LayerNorm without parameters to the features first.
        mean, std: ``(C,)`` subtracted from images in [0, 1] and divided by, per channel.
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
        features: int,
        dim: int | None,
        layer_norm: bool,
        mean: Tensor,
        std: Tensor,
        bgr: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Identity() if dim is None else nn.Linear(features, dim)
        self.layer_norm = layer_norm
        self.bgr = bgr
        self.embedding_dim = features if dim is None else dim
        self.held: list[nn.Module] = []
        self.resting: list[nn.Parameter] = []
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("std", std[:, None, None])

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

    def forward(self, images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D"]:
        """Map images in [0, 1] to embeddings of any length."""
        images = (images - self.mean) / self.std
        features = self.backbone(images.flip(1) if self.bgr else images)
        if self.layer_norm:
            features = F.layer_norm(features, features.shape[1:])
        embeddings: Tensor = self.head(features)
        return embeddings


def build_embedder(
    backbone: Mapping[str, Any],
    head: Embedding | None,
    image_shape: tuple[int, int, int],
    moments: tuple[list[float], list[float]],
    seed: int,
    normalize: str = "dataset",
) -> Embedder:
    """Build the network of a recipe, with weights drawn from ``seed`` alone.

    Args:
        backbone: a registered name with its options.
        head: dimension and LayerNorm; None gives the backbone's features, of unnormalised images unless it has weights.
        image_shape: height, width and channels.
        moments: channel means and deviations of the training images in [0, 1].
        seed: of the run.
        normalize: ``dataset`` for ``moments``, or one of ``INPUTS``.

    Raises:
        DataError: if the images are grey and ``normalize`` is for color.
    """
    options = {key: value for key, value in backbone.items() if key != "name"}
    channels = image_shape[2]
    if normalize != "dataset" and channels != 3:
        raise DataError(f"normalize: {normalize} needs images with three channels, not {channels}")
    raw = head is None and options.get("weights") is None
    mean, std = ([0.0] * channels, [1.0] * channels) if raw else INPUTS.get(normalize, moments)
    bgr = normalize == "caffe" and not raw
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        network: Any = BACKBONES.build(backbone["name"], image_shape, **options)
        dim, layer_norm = (head.dim, head.layer_norm) if head else (None, False)
        model = Embedder(network, network.features, dim, layer_norm, torch.tensor(mean), torch.tensor(std), bgr)
        if head and head.init == "fan_out":
            weight, bias = model.head.parameters()
            nn.init.kaiming_normal_(weight, mode="fan_out")
            nn.init.zeros_(bias)
        return model
