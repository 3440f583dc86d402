"""Caltech-101: photographs and drawings of 101 kinds of objects."""

from __future__ import annotations

from pathlib import Path

from dml_bench.data.archive import find
from dml_bench.data.catalog import check_counts, dataset, half_of_classes, variant
from dml_bench.data.folder import class_folders
from dml_bench.data.listing import Listing
from dml_bench.data.sources import open_source

FOLDERS = ("caltech101", "caltech-101", "Caltech101", "Caltech-101", ".")
LEFT_OUT = ("BACKGROUND_Google", "Faces_easy")
OFFICIAL = (8_242, 100)


@dataset("caltech101")
def caltech101(root: Path | None, /, *, partial: bool = False) -> Listing:
    """Read Caltech-101: the first 50 classes by name to train, the other 50 to test.

    Looks below ``root`` for ``101_ObjectCategories``, a folder, zip or tar file of class folders. ``partial: true``
    allows a copy with fewer images, and halves the classes present: another protocol.

    Raises:
        DataError: if files are missing or damaged, or images and classes are not the official ones in number.

    Source:
        Fei-Fei, Fergus, Perona, "Learning Generative Visual Models from Few Training Examples", CVPR-W 2004.
        Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022, count 4,128 + 1,649 + 2,465 images of
        the same 100 classes.

    Differs:
        Leaves out BACKGROUND_Google, which is clutter, and Faces_easy, which shows the pictures of Faces again: 8,242
        of 9,144 images stay, in 100 classes. The authors' split is closed-set; this one is not.
    """
    source = open_source(find(root, FOLDERS, "101_ObjectCategories"))
    paths, labels, names = class_folders(source, LEFT_OUT)
    cut = check_counts(str(source.path), (len(paths), len(names)), OFFICIAL, partial)
    roles = half_of_classes(labels, str(source.path))
    return Listing("caltech101", source, paths, labels, roles, names, variant=variant(partial=cut))
