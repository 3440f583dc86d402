"""Where a run's network put the test items, read from its folder, and which of them lie next to each other."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dml_bench.errors import ResultsError
from dml_bench.reports.style import shortened
from dml_bench.reports.summary import Row
from dml_bench.results.record import RunRecord

FILE = "embeddings.npz"
AT_ONCE = 2**21
"""Similarities held at once, 16 MiB."""

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Embedded:
    """The test items of a run.

    Attributes:
        vectors: ``(N, D)``; of length 1 where the run was measured by the cosine.
        labels: ``(N,)`` integers.
        query: ``(N,)`` which items ask.
        gallery: ``(N,)`` which are searched.
        unit: whether the vectors were brought to length 1.
        class_names: by label; empty where they are not known, as in older runs.
    """

    vectors: Floats
    labels: Rows
    query: npt.NDArray[np.bool_]
    gallery: npt.NDArray[np.bool_]
    unit: bool
    class_names: tuple[str, ...] = ()

    def name(self, label: int, length: int) -> str:
        """Return what a class is called, in at most ``length`` characters: its number if its name is not known."""
        return shortened(" ".join(self.class_names[label].split()), length) if self.class_names else str(label)

    @property
    def counted(self) -> str:
        """What is to be said of classes that have numbers for names."""
        return "" if self.class_names else ", counted from 0"

    @cached_property
    def asking(self) -> Rows:
        """The queries that are measured: those with another item of their class in the gallery."""
        classes, codes = np.unique(self.labels, return_inverse=True)
        found = np.bincount(codes[self.gallery], minlength=len(classes))[codes]
        return np.flatnonzero(self.query & (found > self.gallery))

    def nearest(self) -> Rows:
        """Return for each of ``asking`` the item nearest to it, but itself.

        As in the evaluation, of items equally near within float64 one of another class is the nearest.
        """
        items = np.flatnonzero(self.gallery)
        found = [items[_first(self.labels[rows, None] != self.labels[items], near)] for rows, near in self._near(items)]
        return np.concatenate([np.empty(0, np.int64), *found])

    def _near(self, items: Rows) -> Iterator[tuple[Rows, npt.NDArray[np.bool_]]]:
        """Yield some rows of ``asking`` at a time, and which items are the nearest to each, ``(n, G)``."""
        center = self.vectors[items].mean(axis=0)
        moved = self.vectors[items] - center
        halves = (moved**2).sum(axis=1) / 2
        reach = 1.0 if self.unit else 2 * float(halves.max(initial=0.0))
        tie = np.finfo(np.float64).eps * (self.vectors.shape[1] + 8) * reach
        size = max(1, AT_ONCE // max(1, len(items)))
        for start in range(0, len(self.asking), size):
            rows = self.asking[start : start + size]
            # Ranks as distances do, and so as cosines at length 1.
            closeness = (self.vectors[rows] - center) @ moved.T - halves
            closeness[rows[:, None] == items] = -np.inf
            yield rows, closeness >= closeness.max(axis=1, keepdims=True) - tie


def embedded(run: RunRecord) -> Embedded | None:
    """Return where the test items of a run lie; None if the run kept no embeddings.

    Raises:
        ResultsError: if the file is damaged.
    """
    path = run.folder / FILE if run.folder else None
    if path is None or not path.exists():
        return None
    parts = _read(path)
    vectors, everyone = parts["embeddings"].astype(np.float64), np.ones(len(parts["labels"]), dtype=bool)
    names = tuple(parts.get("class_names", np.array([], dtype=str)).tolist())
    unit = (run.recipe.get("evaluation") or {}).get("distance", "cosine") == "cosine"
    if unit:
        if not vectors.any(axis=1).all():
            raise ResultsError(f"{path}: damaged, some embeddings have no direction")
        vectors /= np.abs(vectors).max(axis=1, keepdims=True)  # squares could overflow or vanish
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embedded(vectors, parts["labels"], parts.get("query", everyone), parts.get("gallery", everyone), unit, names)


def first_embedded(row: Row) -> Embedded | None:
    """Return where the first seed of a row that kept embeddings put the test items.

    Raises:
        ResultsError: if the file is damaged.
    """
    return next((found for run in row.finished if (found := embedded(run))), None)


def best_embedded(rows: Sequence[Row]) -> Row | None:
    """Return the first of the rows, losses before references, that kept embeddings of a seed."""
    kept = [row for row in rows if any(run.folder and (run.folder / FILE).exists() for run in row.finished)]
    return min(kept, key=lambda row: row.is_reference, default=None)


def _first(other: npt.NDArray[np.bool_], near: npt.NDArray[np.bool_]) -> Rows:
    """Return the first of the nearest items of each row, those of another class before all others."""
    found: Rows = np.argmax(near * (1 + other.astype(np.int8)), axis=1)
    return found


def _read(path: Path) -> Mapping[str, npt.NDArray[Any]]:
    try:
        with path.open("rb") as stream, np.load(stream) as stored:  # a damaged file is closed, too
            parts = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ResultsError(f"{path}: damaged, the embeddings cannot be read ({type(error).__name__})") from None
    shapes = {name: part.shape[:1] for name, part in parts.items() if name != "class_names"}
    if not {"embeddings", "labels"} <= parts.keys() or len(set(shapes.values())) > 1 or parts["embeddings"].ndim != 2:
        raise ResultsError(f"{path}: damaged, it must hold embeddings (N, D) and labels (N,); it holds {shapes}")
    names = parts.get("class_names")
    if names is not None and (names.dtype.kind != "U" or names.shape <= (parts["labels"].max(initial=0),)):
        raise ResultsError(f"{path}: damaged, it must name every class")
    if not np.isfinite(parts["embeddings"]).all():
        raise ResultsError(f"{path}: damaged, some embeddings are not finite")
    return parts
