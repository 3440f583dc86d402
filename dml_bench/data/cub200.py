"""CUB-200-2011: 11,788 photographs of 200 species of birds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from dml_bench.data.archive import find
from dml_bench.data.catalog import check_counts, check_missing, dataset, half_of_classes, variant
from dml_bench.data.listing import TEST, TRAIN, Listing, Source
from dml_bench.data.sources import class_names, open_source, read_boxes, read_table, top_of, whole_numbers
from dml_bench.errors import DataError

FOLDERS = ("cub200", "CUB", "cub", "CUB200", "cub200_first50", ".")
OFFICIAL = (11_788, 200)


@dataset("cub200")
def cub200(
    root: Path | None,
    /,
    *,
    split: Literal["class_disjoint", "official_closed"] = "class_disjoint",
    partial: bool = False,
    boxes: bool = False,
) -> Listing:
    """Read CUB-200-2011, 200 species of birds: species 1 to 100 to train (5,864 images), 101 to 200 to test (5,924).

    Looks below ``root`` for ``CUB_200_2011``, a folder, zip or tar file, and takes what ``images.txt`` names.
    ``split: official_closed`` takes the authors' split for classification instead, the same species on both sides.
    ``partial: true`` allows a copy with fewer images, and halves the species present. ``boxes: true`` cuts each
    image to the bird. Each of these is another protocol.

    Raises:
        DataError: if files are missing or damaged, or images and species are not the official ones in number.

    Source:
        Wah, Branson, Welinder, Perona, Belongie, "The Caltech-UCSD Birds-200-2011 Dataset", CNS-TR-2011-001.
    """
    source = open_source(find(root, FOLDERS, "CUB_200_2011"))
    top = top_of(source, "images.txt")
    images = dict(read_table(source, f"{top}images.txt", 2))
    labels = _by_image(source, f"{top}image_class_labels.txt", images)
    names = read_table(source, f"{top}classes.txt", 2)
    numbers = whole_numbers([row[0] for row in names], f"{source.path}/{top}classes.txt").tolist()
    if partial:
        images = {key: path for key, path in images.items() if f"{top}images/{path}" in source.stamps}
    missing = [path for path in images.values() if f"{top}images/{path}" not in source.stamps]
    check_missing(f"{source.path}/{top}images.txt", missing)
    classes = whole_numbers([labels[key] for key in images], f"{source.path}/{top}image_class_labels.txt")
    kept, codes = np.unique(classes, return_inverse=True)
    cut = check_counts(str(source.path), (len(images), len(kept)), OFFICIAL, partial)
    roles = half_of_classes(codes.astype(np.int64), str(source.path))
    if split == "official_closed":
        training = _by_image(source, f"{top}train_test_split.txt", images)
        roles = np.array([TRAIN if training[key] == "1" else TEST for key in images], dtype=np.int8)
    return Listing(
        "cub200",
        source,
        tuple(f"{top}images/{path}" for path in images.values()),
        codes.astype(np.int64),
        roles,
        class_names(
            dict(zip(numbers, (row[1] for row in names), strict=True)), kept.tolist(), f"{source.path}/{top}classes.txt"
        ),
        boxes=_boxes(source, f"{top}bounding_boxes.txt", images) if boxes else None,
        variant=variant(partial=cut, boxes=boxes, split=split),
    )


def _by_image(source: Source, name: str, images: dict[str, str]) -> dict[str, str]:
    """Return the second column of a list by the first, once every image is found in it."""
    rows = dict(read_table(source, name, 2))
    if lost := images.keys() - rows.keys():
        raise DataError(f"{source.path / name}: {len(lost)} images are not in it, such as number {min(lost)}")
    return rows


def _boxes(source: Source, name: str, images: dict[str, str]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return boxes given as left, top, width, height."""
    boxes = read_boxes(source, name, list(images))
    boxes[:, 2:] += boxes[:, :2]
    return boxes
