"""The Grocery Store Dataset: 5,421 photographs of 81 groceries, taken with a phone in shops."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Literal

import numpy as np

from dml_bench.data.archive import find, naming
from dml_bench.data.catalog import check_counts, check_missing, dataset, variant
from dml_bench.data.listing import GALLERY, QUERY, TEST, TRAIN, Listing, Source
from dml_bench.data.sources import class_names, open_source, read_text, top_of, whole_numbers
from dml_bench.errors import DataError

FOLDERS = ("grocery_store", "GroceryStoreDataset", "GroceryStoreDataset-master", ".")
OFFICIAL = (5_421, 81)
TRAINING_CLASSES = 41
PARTS = ("train", "val", "test")


@dataset("grocery_store")
def grocery_store(
    root: Path | None,
    /,
    *,
    split: Literal["class_disjoint", "official_closed"] = "class_disjoint",
    partial: bool = False,
) -> Listing:
    """Read the Grocery Store Dataset: classes 0 to 40 to train; of 41 to 80, official test images query the others.

    Looks below ``root`` for ``dataset``, a folder, zip or tar file. Training takes all 3,051 images of its classes. The
    1,061 queries search the 1,309 images that the authors train and validate on, which other visits to shops gave:
    pictures of one visit look alike, so that leave-one-out needs no learning. ``split: official_closed`` trains on the
    authors' training and validation images of all classes and tests on their test images. ``partial: true`` allows a
    copy with fewer images. Each of these is another protocol. Super-classes are the 43 coarse classes.

    Raises:
        DataError: if files are missing or damaged, or images and classes are not the official ones in number.

    Source:
        Klasson, Zhang, Kjellström, "A Hierarchical Grocery Store Image Dataset with Visual and Semantic Labels", WACV
        2019; https://github.com/marcusklasson/GroceryStoreDataset.
    """
    source = open_source(find(root, FOLDERS, "dataset"))
    top = top_of(source, "classes.csv")
    rows = [(part, *row) for part in PARTS for row in _rows(source, f"{top}{part}.txt")]
    if partial:
        rows = [row for row in rows if f"{top}{row[1]}" in source.stamps]
    missing = [row[1] for row in rows if f"{top}{row[1]}" not in source.stamps]
    check_missing(str(source.path), missing)
    fine = whole_numbers([row[2] for row in rows], str(source.path))
    coarse = whole_numbers([row[3] for row in rows], str(source.path))
    present, labels = np.unique(fine, return_inverse=True)
    cut = check_counts(str(source.path), (len(rows), len(present)), OFFICIAL, partial)
    tests = np.array([row[0] == "test" for row in rows])
    if split == "official_closed":
        roles = np.where(tests, TEST, TRAIN)
    else:
        roles = np.where(fine < TRAINING_CLASSES, TRAIN, np.where(tests, QUERY, GALLERY))
    names = _names(source, f"{top}classes.csv")
    supers = np.zeros(len(present), dtype=np.int64)
    supers[labels] = coarse
    return Listing(
        "grocery_store",
        source,
        tuple(f"{top}{row[1]}" for row in rows),
        labels.astype(np.int64),
        roles.astype(np.int8),
        class_names(names, present.tolist(), f"{source.path}/{top}classes.csv"),
        super_labels=supers,
        variant=variant(partial=cut, split=split),
    )


def _rows(source: Source, name: str) -> list[list[str]]:
    """Return path, class and coarse class of each line ``path, class, coarse class``."""
    rows = [[part.strip() for part in line.rsplit(",", 2)] for line in read_text(source, name).splitlines() if line]
    for number, row in enumerate(rows, start=1):
        if len(row) != 3:
            raise DataError(f"{source.path / name}:{number}: must be 'path, class, coarse class'")
    return rows


def _names(source: Source, name: str) -> dict[int, str]:
    with naming(source.path / name):
        rows = list(csv.reader(read_text(source, name).splitlines()))[1:]
    rows = [row for row in rows if len(row) > 1]
    numbers = whole_numbers([row[1] for row in rows], str(source.path / name)).tolist()
    return dict(zip(numbers, (row[0] for row in rows), strict=True))
