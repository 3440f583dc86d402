"""What a backbone is, and the registry of the known ones."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from dml_bench.registry import Registry


@runtime_checkable
class Backbone(Protocol):
    """A module that maps normalised images, or features of another network, to features."""

    features: int

    def __call__(self, images: Float[Tensor, "N ..."]) -> Float[Tensor, "N F"]:
        """Map images to ``features`` numbers each."""


BACKBONES: Registry[Backbone] = Registry(
    "backbones", [f"dml_bench.models.{m}" for m in ("convnet", "pixels", "features")]
)
"""Factories ``(image_shape: tuple[height, width, channels], /, *, ...) -> Backbone``.

Those of ``models.features`` take the shape ``(D,)`` of feature vectors as well.
"""
