"""The similarity slot: how alike each embedding and each center are, ``(N, D), (C, K, D) -> (N, C, K)``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dml_bench.losses.numerics import length, unit
from dml_bench.losses.slots import Slot
from dml_bench.registry import Positive

Similarity = Callable[[Tensor, Tensor], Tensor]
SIMILARITIES: Slot[Similarity] = Slot("similarity")


def inner_products(vectors: Float[Tensor, "N D"], centers: Float[Tensor, "C K D"]) -> Float[Tensor, "N C K"]:
    """Multiply out ``nd,ckd->nck``; the backward of ``einsum`` takes twice as long for many classes."""
    products: Tensor = F.linear(vectors, centers.flatten(0, 1))
    return products.view(-1, *centers.shape[:2])


@dataclass(frozen=True)
class Product:
    """The inner product, of unit vectors where asked for: a cosine times the lengths that were left in.

    Args:
        unit_embeddings: whether embeddings are brought to unit length.
        unit_centers: whether centers are.
    """

    unit_embeddings: bool
    unit_centers: bool

    def __call__(self, embeddings: Float[Tensor, "N D"], centers: Float[Tensor, "C K D"]) -> Float[Tensor, "N C K"]:
        """Return the products."""
        directions = unit(embeddings) if self.unit_embeddings else embeddings
        products = inner_products(directions, centers)
        # Dividing the product by the lengths saves several passes over the centers, most of all in backward.
        return products / length(centers) if self.unit_centers else products

    def lengths(
        self, embeddings: Float[Tensor, "N D"], centers: Float[Tensor, "C K D"], labels: Int[Tensor, " N"]
    ) -> Float[Tensor, " N"] | None:
        """Return what each product with the own class's center is to be divided by to be a cosine; None for 1."""
        own = None if self.unit_centers else length(centers[labels, 0])
        if self.unit_embeddings:
            return own
        return length(embeddings) if own is None else length(embeddings) * own


@torch.no_grad()
def squared_sines(
    embeddings: Float[Tensor, "N D"],
    centers: Float[Tensor, "C K D"],
    labels: Int[Tensor, " N"],
    rows: Int[Tensor, " M"],
) -> Float[Tensor, " M"]:
    """Return the squared sine of the angle between some embeddings and the nearest center of their class.

    It is exact to rounding at any angle: ``|a - b|^2 |a + b|^2 / 4`` of the unit vectors.
    """
    own, directions = unit(centers[labels[rows]]), unit(embeddings[rows])
    nearest = torch.einsum("md,mkd->mk", directions, own).argmax(dim=1)
    own = own[torch.arange(len(rows), device=rows.device), nearest]
    return (directions - own).square().sum(dim=1) * (directions + own).square().sum(dim=1) / 4


dot = Product(unit_embeddings=False, unit_centers=False)
cosine = Product(unit_embeddings=True, unit_centers=True)
class_cosine = Product(unit_embeddings=False, unit_centers=True)
feature_cosine = Product(unit_embeddings=True, unit_centers=False)
SIMILARITIES.part("dot", "The inner product; nothing is normalised.")(dot)
SIMILARITIES.part("cosine", "The cosine of the angle, in [-1, 1].")(cosine)
SIMILARITIES.part("class_cosine", "The cosine times the length of the embedding; centers are normalised.")(class_cosine)
SIMILARITIES.part("feature_cosine", "The cosine times the length of the center; embeddings are normalised.")(
    feature_cosine
)


@SIMILARITIES.part("negative_squared_distance")
def negative_squared_distance(
    embeddings: Float[Tensor, "N D"], centers: Float[Tensor, "C K D"]
) -> Float[Tensor, "N C K"]:
    """Return minus the squared distance of the unit vectors, ``2 cos - 2``, in [-4, 0]."""
    cosines = cosine(embeddings, centers)
    return torch.add(cosines.new_tensor(-2.0), cosines, alpha=2)  # one pass over all classes instead of two


@SIMILARITIES.register("gaussian")
@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """``exp(-||x - w||^2 / sigma)``, in (0, 1]; nothing is normalised.

    Args:
        sigma: > 0, a squared length; far beyond it gradients vanish, so centers must start at the embeddings' scale.

    Source: Hayat et al., Gaussian Affinity for Max-margin Class Imbalanced Learning, ICCV 2019, Eq. 3.
    """

    sigma: Positive = 10.0

    def __call__(self, embeddings: Float[Tensor, "N D"], centers: Float[Tensor, "C K D"]) -> Float[Tensor, "N C K"]:
        """Return the affinities."""
        products = inner_products(embeddings, centers)
        squares = embeddings.square().sum(dim=1)[:, None, None] + centers.square().sum(dim=2)
        return ((2 * products - squares).clamp(max=0) / self.sigma).exp()
