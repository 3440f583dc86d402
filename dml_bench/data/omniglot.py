"""Omniglot: 1,623 handwritten characters of 50 alphabets, each drawn by 20 people."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image
from PIL import __version__ as pillow_version
from pydantic import Field

from dml_bench.data.archive import ImageArchive, decode_grey, find, open_images
from dml_bench.data.cache import cached_images
from dml_bench.data.dataset import DATASETS, Images, ImageSet, Split
from dml_bench.errors import DataError

FOLDERS = ("omniglot", "omniglot-py", "Omniglot", "omniglot/python", ".")
SIZE = (105, 105)
DRAWERS = 20


@DATASETS.register("omniglot")
def omniglot(root: Path | None, /, *, image_size: Annotated[int, Field(ge=8, le=105)] = 28) -> Split:
    """Read Omniglot with its official split: background (964 characters) to train, evaluation (659) to test.

    Looks below ``root`` for ``images_background`` and ``images_evaluation``, each a zip file or an unpacked folder.
    One grey channel, ink bright on black, so that what augmentation pads with is paper.

    Raises:
        DataError: if files are missing or damaged, or the characters are not the official ones in number.

    Source:
        Lake, Salakhutdinov, Tenenbaum, "Human-level concept learning through probabilistic program induction",
        Science 350, 2015; https://github.com/brendenlake/omniglot.

    Differs:
        The drawings are 105 x 105 and black on white; here inverted and reduced with Lanczos's filter.
    """
    background, evaluation = (find(root, FOLDERS, name) for name in ("images_background", "images_evaluation"))
    return Split("omniglot", read_part(background, image_size, 964), read_part(evaluation, image_size, 659))


def read_part(path: Path, image_size: int, characters: int) -> ImageSet:
    """Read one half of Omniglot; class names are ``Alphabet/characterNN``.

    Args:
        path: zip file or folder of ``<Alphabet>/<characterNN>/<drawing>.png``.
        image_size: height and width of the images returned, pixels.
        characters: how many characters there must be, each with 20 drawings.

    Raises:
        DataError: naming the file, if the numbers differ or an image is damaged.
    """
    archive = open_images(path)
    names = _class_names(archive, characters)
    classes = sorted(set(names))
    number = {name: label for label, name in enumerate(classes)}
    labels = np.array([number[name] for name in names], dtype=np.int64)
    key = {
        "dataset": "omniglot",
        "version": 1,
        "image_size": image_size,
        "source": archive.fingerprint,
        "decoded by": pillow_version,
    }
    images = cached_images(key, lambda: {"images": _decode(archive, image_size)})["images"]
    return ImageSet(images, labels, tuple(classes))


def _class_names(archive: ImageArchive, characters: int) -> list[str]:
    """Return the class of each member, once their numbers are found to be right."""
    names = ["/".join(member.split("/")[-3:-1]) for member in archive.members]
    counts = Counter(names)
    wrong = sorted(name for name, count in counts.items() if count != DRAWERS or name.count("/") != 1)
    if len(counts) != characters or wrong:
        first = f"; the first odd one, '{wrong[0]}', has {counts[wrong[0]]}" if wrong else ""
        raise DataError(
            f"{archive.path}: must hold {characters} characters (Alphabet/characterNN) of {DRAWERS} PNG images each, "
            f"but holds {len(counts)} characters and {len(names)} images{first}"
        )
    return names


def _decode(archive: ImageArchive, image_size: int) -> Images:
    images = np.empty((len(archive.members), image_size, image_size, 1), dtype=np.uint8)
    for i, (member, data) in enumerate(archive.read()):
        paper = decode_grey(data, f"{archive.path}/{member}", SIZE)
        images[i, :, :, 0] = 255 - np.asarray(paper.resize((image_size, image_size), Image.Resampling.LANCZOS))
    return images
