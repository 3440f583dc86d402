"""Who asks and what is searched: checked vectors and classes, read from memory or from the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from dml_bench.errors import DataError, OptionError, Problem
from dml_bench.search.points import CHUNK, Operand, Points, Table, cosine, euclidean
from dml_bench.search.relevance import Relevance

Distance = Literal["cosine", "euclidean"]
Mask = npt.ArrayLike | Tensor


@dataclass(frozen=True, eq=False)
class PairList:
    """Pairs of rows to verify.

    Attributes:
        first: ``(P,)`` rows of the embeddings.
        second: ``(P,)``.
        same: ``(P,)`` whether both show the same.
        folds: ``(P,)`` the fold of a cross-validation that each pair belongs to, or None.
    """

    first: Int64[np.ndarray, " P"]
    second: Int64[np.ndarray, " P"]
    same: Bool[np.ndarray, " P"]
    folds: Int64[np.ndarray, " P"] | None = None


@dataclass(frozen=True, eq=False)
class Items:
    """Queries and a gallery, which may share items.

    Attributes:
        queries: ``(Q,)`` points.
        gallery: ``(G,)`` points.
        relevance: the classes of both, and where in the gallery each query lies.
        rows: ``(Q,)`` which embedding each query is.
        members: the queries, and the items of the gallery that are of a query's class, each once.
        member_classes: ``(M,)``.
        labels: ``(C,)`` the label of each class.
    """

    queries: Points
    gallery: Points
    relevance: Relevance
    rows: Int64[np.ndarray, " Q"]
    members: Points
    member_classes: Int64[np.ndarray, " M"]
    labels: npt.NDArray[Any]

    def operands(self) -> tuple[Operand, Operand]:
        """Return the two sides whose product is the similarity."""
        return (cosine if self.queries.unit else euclidean)(self.queries, self.gallery)


def arrange(
    embeddings: npt.ArrayLike | Tensor,
    labels: npt.ArrayLike | Tensor,
    query: Mask | None,
    gallery: Mask | tuple[npt.ArrayLike | Tensor, npt.ArrayLike | Tensor] | None,
    distance: Distance,
    device: torch.device,
) -> Items:
    """Check what ``evaluate`` is given, and say who asks and what is searched.

    Raises:
        DataError: for embeddings, labels or masks of the wrong shape or type, NaN, infinities and, for the cosine, zero
            vectors.
        OptionError: if masks are given for one side alone.
    """
    first = checked_vectors(embeddings, "embeddings", distance)
    values: Table = first
    codes = _integers(labels, "labels", len(values))
    if isinstance(gallery, tuple):
        if query is not None:
            raise OptionError([Problem(("query",), "must not be given beside a gallery of its own: all rows ask")])
        if len(gallery) != 2:
            raise DataError(f"gallery: must be a mask, or embeddings and labels, not {len(gallery)} things")
        more = checked_vectors(gallery[0], "gallery embeddings", distance)
        if more.shape[1] != values.shape[1]:
            raise DataError(
                f"gallery embeddings: must have {values.shape[1]} columns, as the others, not {more.shape[1]}"
            )
        codes = np.concatenate([codes, _integers(gallery[1], "gallery labels", len(more))])
        asks = np.arange(len(codes)) < len(values)
        values, found = Stacked([first, more]), np.logical_not(asks)
    elif query is None and gallery is None:
        names, classes = np.unique(codes, return_inverse=True)
        points = Points(values, None, distance == "cosine", device)
        everyone = np.arange(len(codes), dtype=np.int64)
        return Items(points, points, Relevance.within(classes), everyone, points, classes, names)
    else:
        if query is None or gallery is None:
            missing = "query" if query is None else "gallery"
            raise OptionError(
                [Problem((missing,), "is needed too: masks say for each row whether it asks and is found")]
            )
        asks, found = _mask(query, "query", len(codes)), _mask(gallery, "gallery", len(codes))
    return _split(values, codes, asks, found, distance == "cosine", device)


def _split(
    values: Table,
    labels: Int64[np.ndarray, " N"],
    asks: npt.NDArray[np.bool_],
    found: npt.NDArray[np.bool_],
    unit: bool,
    device: torch.device,
) -> Items:
    taking_part = asks | found
    names, codes = np.unique(labels[taking_part], return_inverse=True)
    classes = np.full(len(labels), -1)
    classes[taking_part] = codes
    places = np.full(len(labels), -1)
    places[found] = np.arange(found.sum())
    members = np.flatnonzero(asks | (found & np.isin(classes, classes[asks])))
    rows, items = np.flatnonzero(asks), np.flatnonzero(found)
    relevance = Relevance(classes[rows], classes[items], places[rows])
    some = [Points(values, which, unit, device) for which in (rows, items, members)]
    return Items(some[0], some[1], relevance, rows, some[2], classes[members], names)


class Stacked:
    """Arrays of equally long rows, one below the other, without a copy."""

    def __init__(self, parts: Sequence[npt.NDArray[Any]]) -> None:
        self.parts = list(parts)
        self.starts = np.cumsum([0, *(len(part) for part in parts)])
        self.shape: tuple[int, ...] = (int(self.starts[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: slice | Int64[np.ndarray, " n"]) -> npt.NDArray[Any]:
        rows = np.arange(*which.indices(len(self))) if isinstance(which, slice) else which
        result = np.empty((len(rows), *self.shape[1:]))
        for part, start in zip(self.parts, self.starts[:-1], strict=True):
            inside = (rows >= start) & (rows < start + len(part))
            result[inside] = part[rows[inside] - start]
        return result


def checked_vectors(values: npt.ArrayLike | Tensor, what: str, distance: Distance) -> npt.NDArray[Any]:
    """Return ``(N, D)`` real numbers as they are, once every row is found to be finite and to have a direction."""
    array = _numbers(values, what)
    if array.ndim != 2 or not array.size:
        raise DataError(f"{what}: must be (N, D) with at least one row and column, not {array.shape}")
    broken, zero = np.zeros(len(array), dtype=bool), np.zeros(len(array), dtype=bool)
    step = max(1, CHUNK // array.shape[1])
    for start in range(0, len(array), step):
        block = array[start : start + step]
        if block.dtype.kind == "f":
            broken[start : start + step] = np.logical_not(np.isfinite(block).all(axis=1))
        zero[start : start + step] = np.logical_not(block.any(axis=1))
    _refuse(broken, what, "hold NaN or infinity")
    if distance == "cosine":
        _refuse(zero, what, "are zero vectors, which have no direction")
    return array


def _refuse(bad: Bool[np.ndarray, " N"], what: str, why: str) -> None:
    if bad.any():
        raise DataError(f"{what}: {bad.sum()} of {len(bad)} rows {why}; the first is row {bad.argmax()}")


def _numbers(values: npt.ArrayLike | Tensor, what: str) -> npt.NDArray[Any]:
    """Return an array of real numbers; float16 and bfloat16 tensors become float32, which NumPy and FAISS know."""
    try:
        if isinstance(values, Tensor):
            values = values.detach().cpu()
            values = (values.float() if values.dtype in (torch.float16, torch.bfloat16) else values).numpy()
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{what}: not an array of numbers: {error}") from error
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise DataError(f"{what}: must be real numbers, not {array.dtype}")
    return array


def _integers(labels: npt.ArrayLike | Tensor, what: str, items: int) -> Int64[np.ndarray, " N"]:
    array = _numbers(labels, what)
    if array.dtype.kind not in "iu":
        raise DataError(f"{what}: must be integers, not {array.dtype}")
    if array.shape != (items,):
        raise DataError(f"{what}: must be ({items},), one per embedding, not {array.shape}")
    if array.max(initial=0) > np.iinfo(np.int64).max:
        raise DataError(f"{what}: must be at most {np.iinfo(np.int64).max}, not {array.max()}")
    return array.astype(np.int64, copy=False)


def _mask(values: Mask, what: str, items: int) -> npt.NDArray[np.bool_]:
    try:
        array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    except ValueError as error:
        raise DataError(f"{what}: must be ({items},) of true and false: {error}") from error
    if array.dtype != bool or array.shape != (items,):
        raise DataError(f"{what}: must be ({items},) of true and false, not {array.dtype} {array.shape}")
    if not array.any():
        raise DataError(f"{what}: no row is in it")
    return array
