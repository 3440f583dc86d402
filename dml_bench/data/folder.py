"""One's own images: a folder, zip or tar file with one folder for each class."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

import numpy as np

from dml_bench.data.catalog import dataset, half_of_classes
from dml_bench.data.dataset import Labels
from dml_bench.data.listing import TEST, TRAIN, Listing, Source
from dml_bench.data.sources import open_source
from dml_bench.errors import DataError
from dml_bench.recipe.weights import ROOT_VARIABLE

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2")
"""How the name of an image ends, in small letters; other files are passed over."""

PARTS = {"train": TRAIN, "test": TEST}


@dataset("folder")
def folder(root: Path | None, /, *, path: str) -> Listing:
    """Read images of one's own: class folders in a folder, zip or tar file; half of the classes to train, half to test.

    An image's class is the folder it lies in, by its whole path below the top: ``shoes/red`` and ``bags/red`` are two.
    Classes are sorted by name, capitals as small letters; the first half of them, the larger one, trains. If the top
    holds just the folders ``train`` and ``test``, these are the split, and no class may be in both. Files whose name
    does not end like an image's are passed over.

    Args:
        root: folder of the data sets.
        path: of the folder, zip or tar file; absolute, or relative to ``root``, or else to the current folder.

    Raises:
        DataError: if there is no image, an image lies outside a class folder, or there are fewer than 4 classes.
    """
    source = open_source(resolve(root, path))
    paths, labels, names = class_folders(source)
    parts = {name.split("/")[0] for name in names}
    if parts == PARTS.keys() and all("/" in name for name in names):
        return _parted(source, paths, names, labels)
    return Listing("folder", source, paths, labels, half_of_classes(labels, str(source.path)), names)


def resolve(root: Path | None, path: str) -> Path:
    """Return an absolute path, or one below ``root``, or one below the current folder.

    Raises:
        DataError: if there is neither.
    """
    tried = [(root / path).expanduser()] if root else []
    tried.append(Path(path).expanduser())
    for place in tried:
        if place.exists():
            return place.absolute()
    looked = ", ".join(str(place) for place in dict.fromkeys(tried))
    raise DataError(f"path: there is no {looked}; name it absolutely, or relative to data_root or ${ROOT_VARIABLE}")


def class_folders(source: Source, left_out: Container[str] = ()) -> tuple[tuple[str, ...], Labels, tuple[str, ...]]:
    """Return images, labels and class names of a source whose class folders lie below one top folder, or at the top.

    Args:
        source: what to list.
        left_out: names of classes that are not wanted.

    Raises:
        DataError: if there is no image, or one lies outside a class folder.
    """
    paths = [name for name in source.stamps if name.lower().endswith(SUFFIXES)]
    if not paths:
        raise DataError(f"{source.path}: there is no image in it; names must end in {', '.join(SUFFIXES)}")
    top = _common_top(paths)
    classes = [path[len(top) :].rpartition("/")[0] for path in paths]
    kept = [(path, name) for path, name in zip(paths, classes, strict=True) if name not in left_out]
    for path, name in kept:
        if not name:
            raise DataError(f"{source.path / path}: lies in no class folder")
    names = sorted({name for _, name in kept}, key=lambda name: (name.casefold(), name))
    number = {name: label for label, name in enumerate(names)}
    return tuple(p for p, _ in kept), np.array([number[n] for _, n in kept], dtype=np.int64), tuple(names)


def _common_top(paths: list[str]) -> str:
    """Return the folder, with its ``/``, below which the class folders begin: the deepest that holds every folder."""
    folders = [path.split("/")[:-1] for path in paths]
    first, last = min(folders), max(folders)
    depth = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    if first == last:  # all in one folder, which is the only class
        depth = max(0, len(first) - 1)
    return "".join(f"{part}/" for part in first[:depth])


def _parted(source: Source, paths: tuple[str, ...], names: tuple[str, ...], labels: Labels) -> Listing:
    """Take the split from the folders ``train`` and ``test``."""
    inner = [name.split("/", 1)[1] for name in names]
    if twice := sorted({name for name in inner if inner.count(name) > 1}):
        raise DataError(
            f"{source.path}: the class '{twice[0]}' is in train and in test; retrieval is tested on classes not seen"
        )
    roles = np.array([PARTS[names[label].split("/", 1)[0]] for label in labels], dtype=np.int8)
    return Listing("folder", source, paths, labels, roles, tuple(inner), variant=("train and test folders",))
