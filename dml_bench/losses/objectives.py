"""The objective slot: what each row of logits costs, ``(N, C) logits, (N,) labels -> (N,)``."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dml_bench.losses.numerics import masked_logsumexp

Objective = Callable[[Tensor, Tensor], Tensor]


def softmax(logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Return the cross-entropy ``logsumexp_j z_j - z_y``, >= 0."""
    return F.cross_entropy(logits, labels, reduction="none")


def nca(logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Return ``logsumexp_{j != y} z_j - z_y``: softmax without the positive in the denominator; may be negative."""
    others = torch.ones_like(logits, dtype=torch.bool).scatter_(1, labels[:, None], False)
    return masked_logsumexp(logits, others) - logits.gather(1, labels[:, None]).squeeze(1)
