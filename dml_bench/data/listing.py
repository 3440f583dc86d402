"""What a data set consists of before any image is decoded: names, labels, roles, boxes, and where the bytes lie."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar, get_type_hints

import numpy as np
import numpy.typing as npt

from dml_bench.data.dataset import DATASETS, Labels, Pairs, Split
from dml_bench.data.decoding import decode
from dml_bench.errors import DataError
from dml_bench.registry import Registry

F = TypeVar("F", bound=Callable[..., Any])

TRAIN, TEST, QUERY, GALLERY = range(4)
ROLES = ("train", "test", "query", "gallery")
"""What an image is for. A set has either ``test`` images, each a query against all others, or query and gallery."""


class Source(Protocol):
    """Where the bytes of images lie: a zip or tar file, or a folder."""

    @property
    def path(self) -> Path:
        """The file or folder, for messages."""

    @property
    def stamps(self) -> Mapping[str, tuple[int, ...]]:
        """Name to size and checksum (zip), or size and time of change (folder), of every file that is no stray."""

    @property
    def strays(self) -> tuple[str, ...]:
        """Files that are passed over: ``._*``, ``.DS_Store``, ``Thumbs.db``, ``__MACOSX``."""

    def read(self, names: Sequence[str]) -> Iterator[bytes]:
        """Yield the bytes of each named file, in this order. Opens the file anew: safe in threads and processes."""


@dataclass(frozen=True)
class Listing:
    """The images of a data set, undecoded.

    Args:
        name: of the data set.
        source: where the bytes lie.
        paths: ``N`` names inside ``source``, parts joined by ``/``.
        labels: ``(N,)`` int64, index into ``class_names``.
        roles: ``(N,)`` int8, index into ``ROLES``.
        class_names: of all classes, train and test alike, in the order of the labels.
        boxes: ``(N, 4)`` left, top, right, bottom in pixels of the stored image, right and bottom exclusive; None keeps
            the whole image.
        super_labels: ``(C,)`` int64, the super-class of each class, if there are any.
        variant: what makes this another protocol than the data set's own, such as ``("partial", "boxes")``.
        pairs: for verification, over the images with the role test, in their order.

    Raises:
        DataError: when an image is named twice, or labels, roles and boxes do not fit together.
    """

    name: str
    source: Source
    paths: tuple[str, ...]
    labels: Labels
    roles: npt.NDArray[np.int8]
    class_names: tuple[str, ...]
    boxes: npt.NDArray[np.float64] | None = None
    super_labels: Labels | None = None
    variant: tuple[str, ...] = ()
    pairs: Pairs | None = None
