"""The nearest items of a few queries, in order. Whole test sets are ranked by ``dml_bench.search``."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float64, Int64

from dml_bench.errors import DataError

BLOCK = 2**22
"""Numbers of the gallery that are turned into float64 at once."""

Vectors = npt.NDArray[Any]


def nearest(
    queries: Vectors,
    gallery: Vectors,
    depth: int,
    distance: Literal["cosine", "euclidean"] = "cosine",
    own: Int64[np.ndarray, " Q"] | None = None,
    later: npt.NDArray[np.bool_] | None = None,
) -> tuple[Int64[np.ndarray, "Q k"], Float64[np.ndarray, "Q k"]]:
    """Return the ``depth`` nearest items of each query, nearest first, and how similar or far they are.

    Args:
        queries: ``(Q, D)``.
        gallery: ``(G, D)``, which may be a memory map.
        depth: at least 1, at most G, or one less if a query is in the gallery itself.
        distance: ``cosine`` gives similarities, ``euclidean`` distances.
        own: ``(Q,)`` where in the gallery a query itself lies, which it never finds; -1 if it is not in there.
        later: ``(Q, G)`` what comes later where two items are equally near; else the item further back does.

    Raises:
        DataError: if an embedding has no direction, or is not finite.
    """
    asked = _checked(queries, "query", distance)
    values = np.empty((len(asked), len(gallery)))
    step = max(1, BLOCK // gallery.shape[1])
    for start in range(0, len(gallery), step):
        items = _checked(gallery[start : start + step], "gallery", distance)
        values[:, start : start + step] = _compared(asked, items, distance)
    keys = values if distance == "euclidean" else -values
    if own is not None:
        inside = np.flatnonzero(own >= 0)
        keys[inside, own[inside]] = np.inf
    order = np.lexsort((keys if later is None else later, keys), axis=-1)[:, :depth]
    near = np.take_along_axis(keys, order, axis=1)
    return order.astype(np.int64), near if distance == "euclidean" else -near


def _compared(asked: Vectors, items: Vectors, distance: str) -> npt.NDArray[np.float64]:
    products: npt.NDArray[np.float64] = asked @ items.T
    if distance == "cosine":
        return products
    squares = (asked**2).sum(axis=1)[:, None] + (items**2).sum(axis=1)
    distances: npt.NDArray[np.float64] = np.sqrt(np.maximum(squares - 2 * products, 0))
    return distances


def _checked(vectors: Vectors, what: str, distance: str) -> npt.NDArray[np.float64]:
    wide = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        raise DataError(f"{what}: an embedding is not finite")
    if distance == "cosine" and not lengths.all():
        raise DataError(f"{what}: an embedding has length 0, so that the cosine says nothing of it")
    return wide / lengths if distance == "cosine" else wide
