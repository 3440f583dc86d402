"""Look at a data set: its damaged, missing and surplus files, its sizes, and a sheet of its pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from dml_bench.data.catalog import LISTINGS, MissingFilesError
from dml_bench.data.dataset import DATASETS, ImageSet, Split
from dml_bench.data.folder import SUFFIXES
from dml_bench.data.listing import ROLES, Listing
from dml_bench.data.photo import read_photo
from dml_bench.errors import DataError

SHEET = (12, 10)
"""Rows, each a class, and images a row."""


def faults(name: str, root: Path | None, options: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the files of a data set, one line each; every image is read and decoded."""
    if name not in LISTINGS:
        try:
            DATASETS.build(name, root, **options)
        except DataError as error:
            yield from str(error).splitlines()
        return
    try:
        listing = LISTINGS.build(name, root, **options)
    except DataError as error:
        yield str(error)
        if isinstance(error, MissingFilesError):
            yield from (f"missing: {file}" for file in error.files)
        if options.get("partial") or "partial" not in {option.name for option in LISTINGS[name].options}:
            return
        try:
            listing = LISTINGS.build(name, root, **{**options, "partial": True})
        except DataError:
            return
    yield from _damaged(listing)
    known = set(listing.paths)
    for path in listing.source.stamps:
        if path not in known and path.lower().endswith(SUFFIXES):
            yield f"surplus: {path}"


def _damaged(listing: Listing) -> Iterator[str]:
    """Decode every image, one thread per core, and yield what is wrong with each, in their order."""

    def fault(row: int) -> str:
        box = None if listing.boxes is None else tuple(listing.boxes[row].tolist())
        try:
            (data,) = listing.source.read([listing.paths[row]])
            read_photo(data, f"{listing.source.path}/{listing.paths[row]}", box=box)
        except DataError as error:
            return f"damaged: {error}"
        return ""

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from filter(None, pool.map(fault, range(len(listing))))


def part_sizes(listing: Listing) -> list[tuple[str, int, int, int, float, int]]:
    """Return role, images, classes, and least, median and most images of a class, for each role that there is."""
    rows = []
    for role, name in enumerate(ROLES):
        counts = np.unique(listing.labels[listing.part(role)], return_counts=True)[1]
        if len(counts):
            spread = int(counts.min()), float(np.median(counts)), int(counts.max())
            rows.append((name, int(counts.sum()), len(counts), *spread))
    return rows


def set_sizes(split: Split) -> list[tuple[str, int, int, int, float, int]]:
    """Return the same of a split."""
    rows = []
    for name, part in (("train", split.train), ("test", split.test)):
        counts = part.class_counts
        spread = int(counts.min()), float(np.median(counts)), int(counts.max())
        rows.append((name, len(part), part.num_classes, *spread))
    return rows


def image_sizes(listing: Listing) -> tuple[list[float], list[float]]:
    """Return least, median and most of the images' widths and heights, pixels.

    Raises:
        DataError: naming an image that cannot be read.
    """
    sizes = []
    for path, data in zip(listing.paths, listing.source.read(listing.paths), strict=True):
        sizes.append(read_photo(data, f"{listing.source.path}/{path}").size)
    found = np.quantile(np.array(sizes), [0, 0.5, 1], axis=0)
    return found[:, 0].tolist(), found[:, 1].tolist()


def contact_sheet(pictures: list[list[Image.Image]], side: int = 64) -> Image.Image:
    """Return one picture with a row of small ones for each class."""
    columns = max(map(len, pictures))
    sheet = Image.new("RGB", (columns * (side + 4) + 4, len(pictures) * (side + 4) + 4), "white")
    for y, row in enumerate(pictures):
        for x, picture in enumerate(row):
            small = ImageOps.pad(picture.convert("RGB"), (side, side), color="white")
            sheet.paste(small, (4 + x * (side + 4), 4 + y * (side + 4)))
    return sheet


def some_photos(listing: Listing) -> list[list[Image.Image]]:
    """Return the first images of classes spread over a listing."""
    rows = []
    for label in _spread(len(listing.class_names)):
        paths = [listing.paths[i] for i in np.flatnonzero(listing.labels == label)[: SHEET[1]]]
        names_and_bytes = zip(paths, listing.source.read(paths), strict=True)
        rows.append([read_photo(data, f"{listing.source.path}/{path}") for path, data in names_and_bytes])
    return rows


def some_images(part: ImageSet) -> list[list[Image.Image]]:
    """Return the first images of classes spread over a set."""
    rows = []
    for label in _spread(part.num_classes):
        chosen = np.flatnonzero(part.labels == label)[: SHEET[1]]
        rows.append([Image.fromarray(image.squeeze()) for image in part.images[chosen]])
    return rows


def _spread(classes: int) -> list[int]:
    return sorted({round(float(label)) for label in np.linspace(0, classes - 1, min(classes, SHEET[0]))})
