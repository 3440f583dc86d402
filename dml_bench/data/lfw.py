"""Labeled Faces in the Wild: 13,233 photographs of 5,749 people, with 6,000 pairs to be told same or different."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from dml_bench.data.archive import find_below, places
from dml_bench.data.catalog import check_counts, dataset, variant
from dml_bench.data.dataset import Pairs
from dml_bench.data.folder import class_folders
from dml_bench.data.listing import TEST, TRAIN, Listing
from dml_bench.data.sources import Joined, only, open_source, read_text
from dml_bench.errors import DataError

FOLDERS = ("lfw", "LFW", "lfw-py", "lfw_home", ".")
OFFICIAL = (13_233, 5_749)
IMAGES = {
    "original": ("lfw",),
    "funneled": ("lfw_funneled", "lfw-funneled"),
    "deepfunneled": ("lfw-deepfunneled",),
}

Named = tuple[str, int]
"""A person and the number of the picture, from 1."""


@dataset("lfw")
def lfw(
    root: Path | None,
    /,
    *,
    alignment: Literal["original", "funneled", "deepfunneled"] = "original",
    partial: bool = False,
) -> Listing:
    """Read Labeled Faces in the Wild for verification: 10 folds of 300 pairs of one person and 300 of two.

    Looks below ``root`` for ``pairs.txt`` and, beside it, ``lfw`` (or ``lfw-funneled``, ``lfw-deepfunneled``), a
    folder, zip or tar file of ``<Name>/<Name>_0001.jpg``. Test images are those that a pair names; people in no pair
    train, so that no one is on both sides. ``partial: true`` allows a copy with fewer images and leaves out the pairs
    that lack one; that and each alignment but the original are other protocols.

    Raises:
        DataError: if files are missing or damaged, or images, people and pairs are not the official ones in number.

    Source:
        Huang, Ramesh, Berg, Learned-Miller, "Labeled Faces in the Wild", UMass Amherst 07-49, 2007; view 2, restricted.

    Differs:
        The images of people in pairs that no pair names are left out.
    """
    looked = places(root, FOLDERS, IMAGES[alignment][0])
    for place in looked:
        images = next((path for name in IMAGES[alignment] if (path := find_below([place], name))), None)
        lists = next((folder for folder in (place, place.parent) if (folder / "pairs.txt").is_file()), None)
        if images is not None and lists is not None:
            break
    else:
        raise DataError(
            f"lfw: {IMAGES[alignment][0]} and pairs.txt are together in none of: {', '.join(map(str, looked))}"
        )
    source = Joined(place, {"lfw": open_source(images)})
    paths, labels, names = class_folders(source)
    cut = check_counts(str(images), (len(paths), len(names)), OFFICIAL, partial)
    first, second, same, folds = parse_pairs(
        read_text(only(lists, ["pairs.txt"]), "pairs.txt"), str(lists / "pairs.txt")
    )
    number = {path.rsplit("/", 1)[1]: i for i, path in enumerate(paths)}
    there = [_file(a) in number and _file(b) in number for a, b in zip(first, second, strict=True)]
    if not partial and not all(there):
        lost = next(pair for pair, found in zip(zip(first, second, strict=True), there, strict=True) if not found)
        raise DataError(f"{images}: a pair names an image that is not there: {_file(lost[0])} or {_file(lost[1])}")
    pairs = np.array(
        [[number[_file(a)], number[_file(b)]] for a, b, ok in zip(first, second, there, strict=True) if ok]
    )
    if not len(pairs):
        raise DataError(f"{images}: no pair of pairs.txt has both images there")
    tested = np.unique(pairs)
    people = np.unique(labels[tested])
    kept = np.flatnonzero(~np.isin(labels, people) | np.isin(np.arange(len(paths)), tested))
    roles = np.where(np.isin(labels[kept], people), TEST, TRAIN).astype(np.int8)
    among = np.searchsorted(tested, pairs).astype(np.int64)
    mask = np.array(there)
    return Listing(
        "lfw",
        source,
        tuple(paths[i] for i in kept),
        labels[kept],
        roles,
        names,
        variant=variant(partial=cut, alignment=alignment),
        pairs=Pairs(among[:, 0], among[:, 1], np.array(same)[mask], np.array(folds, dtype=np.int64)[mask]),
    )


def parse_pairs(text: str, where: str) -> tuple[list[Named], list[Named], list[bool], list[int]]:
    """Read LFW's list of pairs: ``folds n``, then per fold n lines ``name i j`` and n lines ``name i name j``.

    Args:
        text: the file's.
        where: names the file in errors.

    Returns:
        First and second images, whether they show one person, and the fold of each pair, from 0.

    Raises:
        DataError: naming the line that is not as it should be, or if lines are missing or left over.
    """
    lines = [line.split("\t") for line in text.rstrip().splitlines()]
    try:
        folds, count = (1, int(lines[0][0])) if len(lines[0]) == 1 else map(int, lines[0])
    except (ValueError, IndexError) as error:
        raise DataError(f"{where}:1: must be the number of folds and that of pairs") from error
    if len(lines) != 1 + 2 * folds * count:
        raise DataError(f"{where}: must have {2 * folds * count} lines after the first, not {len(lines) - 1}")
    first: list[Named] = []
    second: list[Named] = []
    same: list[bool] = []
    for number, line in enumerate(lines[1:]):
        one = number % (2 * count) < count
        try:
            name, i, other, j = [line[0], line[1], line[0], *line[2:]] if one else line
            first.append((name, int(i)))
            second.append((other, int(j)))
        except ValueError as error:
            wanted = "name, number, number" if one else "name, number, name, number"
            raise DataError(f"{where}:{number + 2}: must be {wanted}, parted by tabs") from error
        same.append(one)
    return first, second, same, [number // (2 * count) for number in range(len(same))]


def _file(image: Named) -> str:
    return f"{image[0]}_{image[1]:04d}.jpg"
