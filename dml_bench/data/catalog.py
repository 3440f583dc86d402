"""The data sets that are files: how each becomes a listing, and the options that decoding adds to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import numpy as np

from dml_bench.data.dataset import DATASETS, FILES, Labels, Split
from dml_bench.data.decoding import decode
from dml_bench.data.listing import TEST, TRAIN, Listing, Roles
from dml_bench.errors import DataError
from dml_bench.registry import Registry

F = TypeVar("F", bound=Callable[..., Listing])

LISTINGS: Registry[Listing] = Registry("listings", [f"dml_bench.data.{module}" for module in ("omniglot", *FILES)])
"""Readers ``(root: Path | None, /, *, ...) -> Listing``, under the names of their data sets; they decode nothing."""


def dataset(name: str, **defaults: Any) -> Callable[[F], F]:
    """Register the decorated reader in ``LISTINGS``, and in ``DATASETS`` with the options of ``decode`` added.

    Args:
        name: what a recipe says.
        defaults: of the options of ``decode``, where this data set's differ.
    """

    def add(reader: F) -> F:
        LISTINGS.register(name)(reader)
        DATASETS.register(name)(_decoded(reader, defaults))
        return reader

    return add


def _decoded(reader: Callable[..., Listing], defaults: dict[str, Any]) -> Callable[..., Split]:
    """Return a factory of splits whose signature is the reader's and, after it, the options of ``decode``."""
    own = inspect.signature(reader).parameters
    decoding = [p for p in inspect.signature(decode).parameters.values() if p.kind is p.KEYWORD_ONLY]

    def load(root: Path | None, /, **options: Any) -> Split:
        listing = reader(root, **{key: value for key, value in options.items() if key in own})
        return decode(listing, **{key: value for key, value in options.items() if key not in own})

    added = [p.replace(default=defaults.get(p.name, p.default)) for p in decoding]
    load.__signature__ = inspect.Signature([*own.values(), *added])  # type: ignore[attr-defined]
    load.__annotations__ = {
        **get_type_hints(decode, include_extras=True),
        **get_type_hints(reader, include_extras=True),
    }
    load.__annotations__["return"] = Split
    load.__doc__ = reader.__doc__
    load.__name__ = load.__qualname__ = reader.__name__
    load.__module__ = reader.__module__
    return load


def half_of_classes(labels: Labels, where: str) -> Roles:
    """Return roles that train on the first half of the classes present, the larger one, and test on the others.

    Raises:
        DataError: naming ``where``, if there are fewer than 4 classes: retrieval needs 2 to tell apart.
    """
    present = np.unique(labels)
    if len(present) < 4:
        raise DataError(
            f"{where}: has {len(present)} classes; a class-disjoint split needs 4, 2 to train and 2 to test"
        )
    return np.where(labels < present[(len(present) + 1) // 2], TRAIN, TEST).astype(np.int8)


def check_counts(where: str, found: Sequence[int], official: Sequence[int], partial: bool) -> bool:
    """Return whether this copy is partial: the official numbers of images and classes are not all there.

    Raises:
        DataError: if it is and ``partial`` does not allow it, or if there is more than there should be.
    """
    if tuple(found) == tuple(official):
        return False
    text = "{:,} images of {:,} classes"
    if partial and all(n <= m for n, m in zip(found, official, strict=True)):
        return True
    hint = "" if partial else "; a partial copy is read with 'partial: true', and is then another protocol"
    raise DataError(f"{where}: must hold {text.format(*official)}, but {text.format(*found)} are there{hint}")


class MissingFilesError(DataError):
    """A copy that lacks images of its own list; ``files`` names them all."""

    def __init__(self, files: Sequence[str], text: str) -> None:
        self.files = tuple(files)
        super().__init__(text)


def check_missing(where: str, missing: Sequence[str]) -> None:
    """Refuse a copy that lacks images of its own list.

    Raises:
        DataError: if it does.
    """
    if missing:
        raise MissingFilesError(
            missing,
            f"{where}: {len(missing):,} images of the list are missing, such as {missing[0]}; "
            "a partial copy is read with 'partial: true', and is then another protocol",
        )


def variant(**changes: object) -> tuple[str, ...]:
    """Return what makes a listing another protocol than its data set's own: the true ones, and texts as they are.

    >>> variant(partial=True, boxes=False, split="class_disjoint", alignment="funneled")
    ('partial', 'funneled')
    """
    usual = ("class_disjoint", "original")
    there = {name: value for name, value in changes.items() if value and value not in usual}
    return tuple(name if value is True else str(value) for name, value in there.items())
