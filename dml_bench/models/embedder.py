"""Images to embeddings: normalise the input, run the backbone, apply the linear head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dml_bench.models.backbone import BACKBONES
from dml_bench.randomness import derive_seed
from dml_bench.recipe.schema import Embedding


class Embedder(nn.Module):
    """A backbone with a linear head. Its raw output is returned; losses and evaluation normalise as they need.

    Args:
        backbone: maps normalised images to ``features`` numbers each.
        dim: embedding dimension D, or None to return the features themselves.
        layer_norm: whether to apply LayerNorm without parameters to the features first.
        mean, std: ``(C,)`` of the training images in [0, 1], per channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: nn.Module, features: int, dim: int | None, layer_norm: bool, mean: Tensor, std: Tensor
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Identity() if dim is None else nn.Linear(features, dim)
        self.layer_norm = layer_norm
        self.embedding_dim = features if dim is None else dim
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("std", std[:, None, None])

    def forward(self, images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D"]:
        """Map images in [0, 1] to embeddings of any length."""
        features = self.backbone((images - self.mean) / self.std)
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
) -> Embedder:
    """Build the network of a recipe, with weights drawn from ``seed`` alone.

    Args:
        backbone: a registered name with its options.
        head: dimension and LayerNorm; None gives the backbone's features of unnormalised images.
        image_shape: height, width and channels.
        moments: channel means and deviations of the training images in [0, 1]; unused without a head.
        seed: of the run.
    """
    options = {key: value for key, value in backbone.items() if key != "name"}
    channels = image_shape[2]
    mean, std = moments if head else ([0.0] * channels, [1.0] * channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        network: Any = BACKBONES.build(backbone["name"], image_shape, **options)
        dim, layer_norm = (head.dim, head.layer_norm) if head else (None, False)
        return Embedder(network, network.features, dim, layer_norm, torch.tensor(mean), torch.tensor(std))
