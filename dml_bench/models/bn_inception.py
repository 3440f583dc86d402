"""Inception with batch normalisation, layer for layer as in Caffe, so that the weights trained there fit.

Most published numbers of deep metric learning from 2017 to 2021 begin with these weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dml_bench.errors import DataError, OptionError, Problem
from dml_bench.models.backbone import BACKBONES
from dml_bench.models.pooling import Pool, Pooling
from dml_bench.models.weights import Digest, load_weights
from dml_bench.registry import Fraction

OFFICIAL = "52deb4733"
"""How the sha256 of ``bn_inception-52deb4733.pth`` begins."""


class Block(NamedTuple):
    """Outputs of the convolutions of one Inception block; the two last of ``double`` are equally wide.

    Where ``one`` and ``projection`` are 0, there are no such convolutions: the block halves the map, and passes its
    input on through a max pooling.
    """

    one: int
    three_reduce: int
    three: int
    double_reduce: int
    double: int
    projection: int


BLOCKS = {
    "inception_3a": Block(64, 64, 64, 64, 96, 32),
    "inception_3b": Block(64, 64, 96, 64, 96, 64),
    "inception_3c": Block(0, 128, 160, 64, 96, 0),
    "inception_4a": Block(224, 64, 96, 96, 128, 128),
    "inception_4b": Block(192, 96, 128, 96, 128, 128),
    "inception_4c": Block(160, 128, 160, 128, 160, 128),
    "inception_4d": Block(96, 128, 192, 160, 192, 128),
    "inception_4e": Block(0, 128, 192, 192, 256, 0),
    "inception_5a": Block(352, 192, 320, 160, 224, 128),
    "inception_5b": Block(352, 192, 320, 192, 224, 128),
}
MAX_POOLED = "inception_5b"
"""The block that projects maxima; all others project means, zeros around the map included."""


class BNInception(nn.Module):
    """Map images to 1024 features.

    Each convolution ``name`` has a bias and is followed by the batch normalisation ``name_bn`` and ReLU. All are
    direct children with the names of the Caffe model, so that the state has the keys of the file.
    """

    stem = "conv[12]_"

    def __init__(self, channels: int = 3, pooling: Pooling = "mean", momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.features = 1024
        self.weights_digest = ""
        self._add("conv1_7x7_s2", channels, 64, 7, stride=2)
        self._add("conv2_3x3_reduce", 64, 64, 1)
        self._add("conv2_3x3", 64, 192, 3)
        width = 192
        for name, block in BLOCKS.items():
            width = self._add_block(name, block, width)
        self.pool = Pool(pooling)

    def forward(self, images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N F"]:
        """Map normalised images to features."""
        features: Tensor = self.pool(self.maps(images))
        return features

    def maps(self, images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N F h w"]:
        """Map normalised images to the output of the last block: 1024 x 7 x 7 for 224 x 224 pixels."""
        x = _halve(self._run(images, "conv1_7x7_s2"))
        x = _halve(self._run(x, "conv2_3x3_reduce", "conv2_3x3"))
        for name, block in BLOCKS.items():
            x = self._run_block(name, block, x)
        return x

    def _add(self, name: str, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        self.add_module(name, nn.Conv2d(inputs, outputs, size, stride, padding=size // 2))
        self.add_module(f"{name}_bn", nn.BatchNorm2d(outputs, momentum=self.momentum))

    def _add_block(self, name: str, block: Block, width: int) -> int:
        """Add the layers of a block that takes ``width`` channels; return how many it gives."""
        stride = 1 if block.one else 2
        if block.one:
            self._add(f"{name}_1x1", width, block.one, 1)
        self._add(f"{name}_3x3_reduce", width, block.three_reduce, 1)
        self._add(f"{name}_3x3", block.three_reduce, block.three, 3, stride)
        self._add(f"{name}_double_3x3_reduce", width, block.double_reduce, 1)
        self._add(f"{name}_double_3x3_1", block.double_reduce, block.double, 3)
        self._add(f"{name}_double_3x3_2", block.double, block.double, 3, stride)
        if block.projection:
            self._add(f"{name}_pool_proj", width, block.projection, 1)
        return block.one + block.three + block.double + (block.projection or width)

    def _run(self, x: Tensor, *names: str) -> Tensor:
        for name in names:
            x = F.relu(getattr(self, f"{name}_bn")(getattr(self, name)(x)), inplace=True)
        return x

    def _run_block(self, name: str, block: Block, x: Tensor) -> Tensor:
        three = self._run(x, f"{name}_3x3_reduce", f"{name}_3x3")
        double = self._run(x, *(f"{name}_double_3x3_{part}" for part in ("reduce", "1", "2")))
        if not block.one:
            return torch.cat([three, double, _halve(x)], dim=1)
        pooled = F.max_pool2d(x, 3, 1, 1) if name == MAX_POOLED else F.avg_pool2d(x, 3, 1, 1)
        return torch.cat([self._run(x, f"{name}_1x1"), three, double, self._run(pooled, f"{name}_pool_proj")], dim=1)


def _halve(x: Tensor) -> Tensor:
    """Pool as Caffe does: a window that begins inside the map counts, though it ends outside."""
    return F.max_pool2d(x, 3, 2, ceil_mode=True)


def _refuse_side(pixels: int) -> None:
    """Refuse a side at which convolution and pooling would halve a block's map to different sizes.

    Raises:
        DataError: naming sides that fit.
    """
    side = (pixels + 1) // 2  # after the first convolution
    for _ in range(2):
        side = -(-(side - 3) // 2) + 1
    if side < 4 or side % 4:
        raise DataError(f"bn_inception halves its maps evenly for sides such as 224, 227 and 256 pixels, not {pixels}")


def _caffe(recipe: Mapping[str, Any]) -> None:
    if recipe["backbone"].get("weights") is not None and recipe.get("normalize") != "caffe":
        why = "must be caffe beside the weights of bn_inception, which were trained on BGR from 0 to 255"
        raise OptionError([Problem(("normalize",), why)])


@BACKBONES.register("bn_inception", beside=_caffe)
def bn_inception(
    image_shape: tuple[int, int, int],
    /,
    *,
    weights: str | None = None,
    sha256: Digest = OFFICIAL,
    pooling: Pooling = "mean",
    momentum: Fraction = 0.1,
) -> BNInception:
    """Inception with batch normalisation: 10 million parameters, 1024 features; 224 x 224 pixels are meant.

    ``weights`` names a file: ``bn_inception-52deb4733.pth``, or another one of the same network, whose ``sha256`` the
    recipe then states. A relative path is looked for below the data root, then in the current folder. With weights,
    ``normalize`` must be ``caffe``. ``pooling``: ``mean`` of the last map, as most do, ``max``, or their sum.
    ``momentum``: share of each batch in the running statistics, unless they are frozen; 0.1 in SoftTriple's code, 0.9
    in Proxy-Anchor's, which does not freeze them on SOP and In-Shop.

    Source: Ioffe & Szegedy, ICML 2015; the Caffe model that Cadene's ``pretrained-models.pytorch`` offers for PyTorch.
    """
    for side in image_shape[:2]:
        _refuse_side(side)
    network = BNInception(image_shape[2], pooling, momentum)
    if weights is not None:
        network.weights_digest = load_weights(network, Path(weights), sha256, unused=r"last_linear\.")
    return network
