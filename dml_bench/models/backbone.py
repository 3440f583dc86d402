"""What a backbone is, and the registry of the known ones."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from dml_bench.registry import Registry


@runtime_checkable
class Backbone(Protocol):
    """A module that maps normalised images to features.

    It may say what its stem is, the convolutions that come first: ``stem``, a regular expression that the names of the
    stem's modules and parameters begin with, such as ``conv1|bn1``.
    """

    features: int

    def __call__(self, images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N F"]:
        """Map images to ``features`` numbers each."""


BACKBONES: Registry[Backbone] = Registry("backbones", [f"dml_bench.models.{m}" for m in ("convnet", "pixels")])
"""Factories ``(image_shape: tuple[height, width, channels], /, *, ...) -> Backbone``."""
