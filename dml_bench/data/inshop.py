"""In-Shop Clothes Retrieval (DeepFashion): 52,712 photographs of 7,982 garments, with queries and a gallery."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dml_bench.data.archive import find_below, places
from dml_bench.data.catalog import check_counts, check_missing, dataset, variant
from dml_bench.data.listing import GALLERY, QUERY, TRAIN, Listing, Source
from dml_bench.data.sources import Joined, only, open_source, read_boxes, read_table
from dml_bench.errors import DataError

FOLDERS = (
    *("inshop", "InShop", "Inshop", "Inshop_Clothes", "In-shop Clothes Retrieval Benchmark", "deepfashion_inshop"),
    ".",
)
STATUS = {"train": TRAIN, "query": QUERY, "gallery": GALLERY}
OFFICIAL = {"train": (25_882, 3_997), "query": (14_218, 3_985), "gallery": (12_612, 3_985)}
LIST, BOXES = "list_eval_partition.txt", "list_bbox_inshop.txt"


@dataset("inshop")
def inshop(root: Path | None, /, *, partial: bool = False, boxes: bool = False) -> Listing:
    """Read In-Shop Clothes: 3,997 garments to train (25,882 images); of 3,985 others, 14,218 queries search 12,612.

    Looks below ``root`` for ``img`` (or ``Img/img``), a folder, zip or tar file, and for ``list_eval_partition.txt``,
    beside it or in ``Eval``. Super-classes are the kinds of garments, such as ``WOMEN/Dresses``. ``boxes: true`` cuts
    each image to the box of ``list_bbox_inshop.txt``. ``partial: true`` allows a copy with fewer images. Both are other
    protocols.

    Raises:
        DataError: if files are missing or damaged, or images and garments are not the official ones in number.

    Source:
        Liu, Luo, Qiu, Wang, Tang, "DeepFashion: Powering Robust Clothes Recognition and Retrieval", CVPR 2016.
    """
    source, folder = _open(places(root, FOLDERS, "img"))
    rows = read_table(source, f"lists/{LIST}", 3, header=2)
    at = {path: _image(source, path) for path, _, _ in rows}
    missing = [path for path, name in at.items() if name not in source.stamps]
    if not partial:
        check_missing(f"{folder}/{LIST}", missing)
    lost = set(missing)
    rows = [row for row in rows if row[0] not in lost]
    if odd := [row for row in rows if row[2] not in STATUS]:
        raise DataError(f"{folder}/{LIST}: {odd[0][0]}: the status must be {', '.join(STATUS)}, not '{odd[0][2]}'")
    cut = False
    for status, official in OFFICIAL.items():
        items = [row[1] for row in rows if row[2] == status]
        cut |= check_counts(f"{folder}: {status}", (len(items), len(set(items))), official, partial)
    names, labels = np.unique([row[1] for row in rows], return_inverse=True)
    _, kind_of = np.unique(["/".join(row[0].split("/")[1:3]) for row in rows], return_inverse=True)
    supers = np.zeros(len(names), dtype=np.int64)
    supers[labels] = kind_of
    return Listing(
        "inshop",
        source,
        tuple(at[row[0]] for row in rows),
        labels.astype(np.int64),
        np.array([STATUS[row[2]] for row in rows], dtype=np.int8),
        tuple(names.tolist()),
        boxes=read_boxes(source, f"boxes/{BOXES}", [row[0] for row in rows], columns=7, header=2) if boxes else None,
        super_labels=supers,
        variant=variant(partial=cut, boxes=boxes),
    )


def _open(looked: list[Path]) -> tuple[Source, Path]:
    """Mount the images at ``img`` and the folder of each list at ``lists`` and ``boxes``."""
    for place in looked:
        images = find_below([place / "Img", place], "img")
        lists = next((folder for folder in (place / "Eval", place) if (folder / LIST).is_file()), None)
        if images is None or lists is None:
            continue
        annotations = next((f for f in (place / "Anno", place / "Anno" / "bbox", place) if (f / BOXES).is_file()), None)
        mounts: dict[str, Source] = {"img": open_source(images), "lists": only(lists, [LIST])}
        return Joined(place, mounts | ({"boxes": only(annotations, [BOXES])} if annotations else {})), place
    raise DataError(f"inshop: img and {LIST} are together in none of: {', '.join(map(str, looked))}")


def _image(source: Source, path: str) -> str:
    """Return the name of ``img/...`` in the source; an archive may hold the folder ``img`` or begin below it."""
    return f"img/{path}" if f"img/{path}" in source.stamps else path
