"""The ranks at which a query's relevant items are found, exactly, from one pass over tiles of similarities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64


@dataclass(frozen=True, eq=False)
class Ranks:
    """Ranks of the relevant items of some queries, counted from 1.

    Attributes:
        queries: ``(Q,)`` which queries these are.
        relevant: ``(Q,)`` how many relevant items each has, R >= 1.
        starts: ``(Q + 1,)`` the ranks of query i are ``ranks[starts[i]:starts[i + 1]]``.
        ranks: ``(P,)`` ascending for each query. The first is always there; deeper ones than asked for may be left out.
    """

    queries: Int64[np.ndarray, " Q"]
    relevant: Int64[np.ndarray, " Q"]
    starts: Int64[np.ndarray, " Q_plus_1"]
    ranks: Int64[np.ndarray, " P"]

    @property
    def first(self) -> Int64[np.ndarray, " Q"]:
        """``(Q,)`` the rank of the nearest relevant item."""
        return self.ranks[self.starts[:-1]]
