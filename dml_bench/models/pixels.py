"""The image itself as its embedding: the reference that a trained network has to beat."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dml_bench.models.backbone import BACKBONES
from dml_bench.registry import Count


class Pixels(nn.Module):
    """Shrink to ``size`` x ``size`` by averaging, and flatten; nothing to learn."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.features = channels * size * size

    def forward(self, images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N F"]:
        """Map images to features."""
        return F.interpolate(images, (self.size, self.size), mode="area").flatten(1)


@BACKBONES.register("pixels")
def pixels(image_shape: tuple[int, int, int], /, *, size: Count = 16) -> Pixels:
    """Raw pixels: the image averaged down to ``size`` x ``size`` (smaller ones are repeated up) and flattened."""
    return Pixels(image_shape[2], size)
