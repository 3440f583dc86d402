"""Weighted sums of rows, one for each group of them."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag


def grouped_sums(
    rows: Float32[Tensor, "n D"],
    which: Int64[np.ndarray, " k"],
    groups: Int64[np.ndarray, " k"],
    weights: Float[np.ndarray, " k"],
    number: int,
) -> Float32[Tensor, "G D"]:
    """Return the sum of ``weights`` times the rows ``which`` in each of the groups 0 to ``number - 1``.

    The order of summation follows from that of ``which``, not from the threads or the device.
    """
    order, sizes = groups.argsort(kind="stable"), np.bincount(groups, minlength=number)
    picked, starts, factors = which[order], sizes.cumsum() - sizes, weights[order].astype(np.float32)
    device = rows.device
    return embedding_bag(
        torch.from_numpy(picked).to(device),
        rows,
        torch.from_numpy(starts).to(device),
        mode="sum",
        per_sample_weights=torch.from_numpy(factors).to(device),
    )
