"""A small convolutional network for small images, trained from scratch."""

from __future__ import annotations

from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from dml_bench.errors import DataError
from dml_bench.models.backbone import BACKBONES
from dml_bench.models.pooling import Pool, Pooling


class Convnet(nn.Sequential):
    """Blocks of 3x3 convolution, 2x2 max pooling (but in the last), batch normalisation and ReLU; then the pooling.

    With ``dropout`` > 0, that share of the features is dropped out in training.
    """

    stem = r"[0-3](\.|$)"

    def __init__(
        self, channels: int, widths: list[int], dropout: float = 0.0, pooling: Pooling = "mean", grid: int = 1
    ) -> None:
        layers: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(zip([channels, *widths], widths, strict=False)):
            layers.append(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False))
            layers += [nn.MaxPool2d(2)] if i < len(widths) - 1 else []  # before the rest, which then costs a quarter
            layers += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        super().__init__(*layers, Pool(pooling, grid), *([nn.Dropout(dropout)] if dropout else []))
        self.features = widths[-1] * grid**2

    def forward(self, images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N F"]:
        """Map images to features."""
        features: Tensor = super().forward(images)  # type: ignore[no-untyped-call]
        return features


@BACKBONES.register("convnet")
def convnet(
    image_shape: tuple[int, int, int],
    /,
    *,
    width: Annotated[int, Field(ge=4, le=512)] = 32,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    pooling: Pooling = "mean",
    grid: Annotated[int, Field(ge=1, le=8)] = 1,
) -> Convnet:
    """A four-block convolutional network of widths ``w, 2w, 2w, 4w``; about 130,000 parameters at the default.

    Each block is a 3x3 convolution without bias, 2x2 max pooling (in the first three), batch normalisation and ReLU;
    the mean over the image (or what ``pooling`` says) ends the last, so that any image of at least 8x8 pixels fits.
    ``dropout`` is the share of features that is dropped out in training. With ``grid`` > 1, each of ``grid`` x ``grid``
    cells of the image is pooled by itself: ``grid ** 2`` as many features, which tell what is where.

    Source: the four-block network of few-shot learning (Vinyals et al., NeurIPS 2016; Snell et al., NeurIPS 2017).
    Differs: narrow early and wide late blocks; pooling before normalisation; mean instead of flattened features.
    """
    height, side, channels = image_shape
    if min(height, side) < 8:
        raise DataError(f"convnet needs images of at least 8x8 pixels, not {height}x{side}")
    return Convnet(channels, [width, 2 * width, 2 * width, 4 * width], dropout, pooling, grid)
