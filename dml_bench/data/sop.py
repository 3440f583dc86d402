"""Stanford Online Products: 120,053 photographs of 22,634 articles offered for sale, of 12 kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dml_bench.data.archive import find
from dml_bench.data.catalog import check_counts, check_missing, dataset, variant
from dml_bench.data.listing import TEST, TRAIN, Listing
from dml_bench.data.sources import open_source, read_table, top_of, whole_numbers
from dml_bench.errors import DataError

FOLDERS = ("sop", "SOP", "Stanford_Online_Products", "online_products", ".")
OFFICIAL = {"train": (59_551, 11_318), "test": (60_502, 11_316)}


@dataset("sop")
def sop(root: Path | None, /, *, partial: bool = False) -> Listing:
    """Read Stanford Online Products: 11,318 articles to train (59,551 images), 11,316 others to test (60,502).

    Looks below ``root`` for ``Stanford_Online_Products``, a folder, zip or tar file with ``Ebay_train.txt`` and
    ``Ebay_test.txt``. Super-classes are the 12 kinds of articles. ``partial: true`` allows a copy with fewer images,
    each on its side: another protocol.

    Raises:
        DataError: if files are missing or damaged, an article is on both sides, or images and articles are not the
            official ones in number.

    Source:
        Oh Song, Xiang, Jegelka, Savarese, "Deep Metric Learning via Lifted Structured Feature Embedding", CVPR 2016.
    """
    source = open_source(find(root, FOLDERS, "Stanford_Online_Products"))
    top = top_of(source, "Ebay_train.txt")
    paths: list[str] = []
    numbers: list[str] = []
    supers: list[str] = []
    roles: list[int] = []
    cut = False
    for part, role in (("train", TRAIN), ("test", TEST)):
        name = f"{top}Ebay_{part}.txt"
        rows = read_table(source, name, 4, header=1)
        missing = [row[3] for row in rows if f"{top}{row[3]}" not in source.stamps]
        if not partial:
            check_missing(f"{source.path / name}", missing)
        lost = set(missing)
        rows = [row for row in rows if row[3] not in lost]
        found = (len(rows), len({row[1] for row in rows}))
        cut |= check_counts(f"{source.path / name}", found, OFFICIAL[part], partial)
        paths += [f"{top}{row[3]}" for row in rows]
        numbers += [row[1] for row in rows]
        supers += [row[2] for row in rows]
        roles += [role] * len(rows)
    classes, labels = np.unique(whole_numbers(numbers, str(source.path)), return_inverse=True)
    kinds = np.zeros(len(classes), dtype=np.int64)
    kinds[labels] = whole_numbers(supers, str(source.path))
    sides = np.array(roles, dtype=np.int8)
    if both := set(labels[sides == TRAIN].tolist()) & set(labels[sides == TEST].tolist()):
        raise DataError(f"{source.path}: {len(both)} articles are to train and to test, such as {classes[min(both)]}")
    return Listing(
        "sop",
        source,
        tuple(paths),
        labels.astype(np.int64),
        sides,
        tuple(map(str, classes.tolist())),
        super_labels=np.unique(kinds, return_inverse=True)[1].astype(np.int64),
        variant=variant(partial=cut),
    )
