"""Networks of feature vectors that another network computed beforehand; an image is the list of its pixels."""

from __future__ import annotations

import math
from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from dml_bench.models.backbone import BACKBONES

Width = Annotated[int, Field(ge=1, le=16384)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Layers(nn.Sequential):
    """Layers over flat vectors."""

    def __init__(self, features: int, *layers: nn.Module) -> None:
        super().__init__(nn.Flatten(), *layers)
        self.features = features

    def forward(self, vectors: Float[Tensor, "N ..."]) -> Float[Tensor, "N F"]:
        """Map vectors to features."""
        features: Tensor = super().forward(vectors)  # type: ignore[no-untyped-call]
        return features


@BACKBONES.register("identity")
def identity(image_shape: tuple[int, ...], /, *, dropout: Share = 0.0) -> Layers:
    """The features as they are, so that the linear head alone is trained; ``dropout`` drops out a share of them."""
    return Layers(math.prod(image_shape), *([nn.Dropout(dropout)] if dropout else []))


@BACKBONES.register("mlp")
def mlp(
    image_shape: tuple[int, ...],
    /,
    *,
    widths: Annotated[list[Width], Field(min_length=1, max_length=16)] = [512],  # noqa: B006
    batch_norm: bool = True,
    dropout: Share = 0.0,
) -> Layers:
    """A multilayer perceptron: for each of ``widths`` a linear layer, batch normalisation, ReLU and dropout."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip([math.prod(image_shape), *widths], widths, strict=False):
        layers.append(nn.Linear(inputs, outputs, bias=not batch_norm))
        layers += [nn.BatchNorm1d(outputs)] if batch_norm else []
        layers += [nn.ReLU(inplace=True), *([nn.Dropout(dropout)] if dropout else [])]
    return Layers(widths[-1], *layers)
