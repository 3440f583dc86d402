"""Precision, and the guards that keep values exact and gradients finite at the poles of a formula, each one once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

MASKED = -1e30
"""Stands for minus infinity: it vanishes in a logsumexp, but a row of nothing else still has finite gradients."""


WIDE = (torch.float32, torch.float64)


def full_precision(embeddings: Float[Tensor, "N D"]) -> AbstractContextManager[Float[Tensor, "N D"]]:
    """Switch autocast off and yield the embeddings in float32, or float64 if they are that."""
    wide = embeddings if embeddings.dtype in WIDE else embeddings.float()
    # Entering a generator takes a small step 8 % longer, so that is only done where there is something to switch off.
    return _without_autocast(wide) if torch.is_autocast_enabled(wide.device.type) else nullcontext(wide)


@contextmanager
def _without_autocast(embeddings: Float[Tensor, "N D"]) -> Iterator[Float[Tensor, "N D"]]:
    with torch.autocast(embeddings.device.type, enabled=False):
        yield embeddings


def length(vectors: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
    """Return the Euclidean lengths of vectors, at least 1e-12, so that they can be divided by."""
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    if not math.isfinite(lengths.detach().sum()):  # the squares of float32 numbers overflow from 2e19 on
        largest = vectors.detach().abs().amax(dim=-1).clamp(min=1e-12)
        lengths = largest * torch.linalg.vector_norm(vectors / largest[..., None], dim=-1)
    return lengths.clamp(min=1e-12)


def unit(vectors: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
    """Divide vectors by their length, or by 1e-12 where it is smaller."""
    return vectors / length(vectors)[..., None]


def safe_sqrt(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Take the square root of what is positive; all else gives 0 and gets no gradient."""
    positive = values > 0
    # The inner `where` keeps the infinite derivative at 0 out of the graph: inf * 0 would be NaN.
    return torch.where(positive, torch.where(positive, values, 1.0).sqrt(), 0.0)


def softplus(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return ``log(1 + exp(values))``; torch's own drops the tail beyond 20, up to 2e-9."""
    return -F.logsigmoid(-values)


def masked_logsumexp(values: Float[Tensor, "N C"], mask: Bool[Tensor, "N C"]) -> Float[Tensor, " N"]:
    """Take the logsumexp over the entries of each row where ``mask`` is true; about -1e30 where it never is."""
    return values.masked_fill(~mask, MASKED).logsumexp(dim=1)


def pairwise_distances(vectors: Float[Tensor, "N D"]) -> Float[Tensor, "N N"]:
    """Measure Euclidean distances between all rows; equal rows are exactly 0 apart and get no gradient.

    The faster way through inner products loses half of the digits for close rows, which decide which triplets count; so
    float32 goes through inner products in float64, and float64 through the differences.
    """
    if vectors.dtype == torch.float64:
        return torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    wide = vectors.double()
    products = wide @ wide.T
    squares = products.diagonal()
    sums = squares[:, None] + squares
    differences = sums - 2 * products
    # What lies below is rounding of equal rows; float32 cannot tell other rows that close to each other.
    return safe_sqrt(differences.masked_fill(differences < 1e-14 * sums, 0.0)).to(vectors.dtype)


def mean_or_zero(values: Float[Tensor, " M"], embeddings: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """Average ``values``; where there are none, return a 0 that backward can start from."""
    return values.mean() if len(values) else (0 * embeddings).sum()


def falling_cosine(angles: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Continue the cosine beyond pi so that it falls for ever: ``(-1)^k cos(a) - 2 k`` for a in [k pi, (k+1) pi]."""
    turns = (angles.detach() / math.pi).floor()
    return (1 - 2 * turns.remainder(2)) * angles.cos() - 2 * turns


def chebyshev(cosines: Float[Tensor, "*shape"], factor: int) -> Float[Tensor, "*shape"]:
    """Return ``falling_cosine(factor * angle)`` of the angles with these cosines, for an integer factor >= 1.

    ``cos(m a)`` is a polynomial of ``cos(a)``: T_0 = 1, T_1 = c, T_{n+1} = 2 c T_n - T_{n-1}; it has a derivative also
    where the arc cosine has none.
    """
    before, now = torch.ones_like(cosines), cosines
    for _ in range(factor - 1):
        before, now = now, 2 * cosines * now - before
    turns = (factor / math.pi * cosines.detach().clamp(-1, 1).acos()).floor()
    return (1 - 2 * turns.remainder(2)) * now - 2 * turns
