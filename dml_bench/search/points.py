"""Vectors that are read, and brought to length 1 if asked for, a block at a time: memory maps stay on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Points:
    """Vectors of one length, by row.

    Args:
        values: ``(M, D)`` finite real numbers, which may be a memory map; with ``unit`` no row is zero.
        rows: ``(N,)`` which rows of ``values``, in this order; None for all.
        unit: whether rows are brought to length 1.
        device: where the blocks go.
    """

    values: npt.NDArray[Any]
    rows: Int64[np.ndarray, " N"] | None = None
    unit: bool = True
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __len__(self) -> int:
        return len(self.values if self.rows is None else self.rows)

    @property
    def dim(self) -> int:
        """Numbers per row, D."""
        return int(self.values.shape[1])

    def take(self, which: slice | Int64[np.ndarray, " n"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "n D"]:
        """Return some rows; lengths are divided out in float64 before the result is rounded to ``dtype``."""
        found = np.asarray(self.values[which if self.rows is None else self.rows[which]], dtype=np.float64)
        block = torch.from_numpy(found if found.flags.writeable else found.copy()).to(self.device)
        if self.unit:
            block = block / block.abs().amax(dim=1, keepdim=True)  # squares would overflow or vanish
            block /= torch.linalg.vector_norm(block, dim=1, keepdim=True)
        return block.to(dtype)

    def blocks(self, size: int, dtype: torch.dtype = torch.float32) -> Iterator[tuple[slice, Float[Tensor, "n D"]]]:
        """Yield all rows, ``size`` at a time, with where they stand."""
        for start in range(0, len(self), size):
            where = slice(start, min(start + size, len(self)))
            yield where, self.take(where, dtype)
