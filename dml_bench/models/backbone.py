"""What a backbone is, and the registry of the known ones."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from dml_bench.registry import Registry


@runtime_checkable
class Backbone(Protocol):
    """A module that maps normalised images, or features of another network, to features.

    It may say what its stem is, the convolutions that come first: ``stem``, a regular expression that the names of the
    stem's modules and parameters begin with, such as ``conv1|bn1``; and what it began from: ``weights_digest``, the
    sha256 of a file.
    """

    features: int

    def __call__(self, images: Float[Tensor, "N ..."]) -> Float[Tensor, "N F"]:
        """Map images to ``features`` numbers each."""


MODULES = ("bn_inception", "convnet", "features", "pixels", "timm_backbone")

BACKBONES: Registry[Backbone] = Registry("backbones", [f"dml_bench.models.{module}" for module in MODULES])
"""Factories ``(image_shape: tuple[height, width, channels], /, *, ...) -> Backbone``.

Those of ``models.features`` take the shape ``(D,)`` of feature vectors as well.
"""
