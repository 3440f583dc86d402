"""Omniglot: 1,623 handwritten characters of 50 alphabets, each drawn by 20 people."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image
from PIL import __version__ as pillow_version
from pydantic import Field

from dml_bench.data.archive import decode_grey, find
from dml_bench.data.cache import cached_images
from dml_bench.data.catalog import LISTINGS
from dml_bench.data.dataset import DATASETS, Images, ImageSet, Split
from dml_bench.data.listing import TEST, TRAIN, Indices, Listing
from dml_bench.data.sources import Joined, open_source
from dml_bench.errors import DataError

FOLDERS = ("omniglot", "omniglot-py", "Omniglot", "omniglot/python", ".")
PARTS = {"images_background": 964, "images_evaluation": 659}
"""Characters to train on and to test on."""

SIZE = (105, 105)
DRAWERS = 20


@DATASETS.register("omniglot")
def omniglot(root: Path | None, /, *, image_size: Annotated[int, Field(ge=8, le=105)] = 28) -> Split:
    """Read Omniglot with its official split: background (964 characters) to train, evaluation (659) to test.

    Looks below ``root`` for ``images_background`` and ``images_evaluation``, each a folder, zip or tar file. One grey
    channel, ink bright on black, so that what augmentation pads with is paper.

    Raises:
        DataError: if files are missing or damaged, or the characters are not the official ones in number.

    Source:
        Lake, Salakhutdinov, Tenenbaum, "Human-level concept learning through probabilistic program induction",
        Science 350, 2015; https://github.com/brendenlake/omniglot.

    Differs:
        The drawings are 105 x 105 and black on white; here inverted and reduced with Lanczos's filter.
    """
    listing = drawings(root)
    train, test = (_part(listing, listing.part(role), image_size) for role in (TRAIN, TEST))
    return Split("omniglot", train, test)


@LISTINGS.register("omniglot")
def drawings(root: Path | None, /) -> Listing:
    """List the drawings of Omniglot, ``<Alphabet>/<characterNN>/<drawing>.png`` in each part; undecoded.

    Raises:
        DataError: if a part is missing, or does not hold the official number of characters, each with 20 drawings.
    """
    found = {name: find(root, FOLDERS, name) for name in PARTS}
    source = Joined(found["images_background"].parent, {name: open_source(path) for name, path in found.items()})
    paths, names, roles = [], [], []
    for role, (part, characters) in zip((TRAIN, TEST), PARTS.items(), strict=True):
        inside = [name for name in source.stamps if name.startswith(f"{part}/") and name.lower().endswith(".png")]
        paths += inside
        names += _characters(inside, str(found[part]), characters)
        roles += [role] * len(inside)
    classes = sorted(set(names[: roles.index(TEST)])) + sorted(set(names[roles.index(TEST) :]))
    number = {name: label for label, name in enumerate(classes)}
    labels = np.array([number[name] for name in names], dtype=np.int64)
    return Listing("omniglot", source, tuple(paths), labels, np.array(roles, dtype=np.int8), tuple(classes))


def _characters(paths: list[str], where: str, characters: int) -> list[str]:
    """Return the class of each drawing, once their numbers are found to be right."""
    names = ["/".join(path.split("/")[-3:-1]) for path in paths]
    counts = Counter(names)
    wrong = sorted(name for name, count in counts.items() if count != DRAWERS or name.count("/") != 1)
    if len(counts) != characters or wrong:
        first = f"; the first odd one, '{wrong[0]}', has {counts[wrong[0]]}" if wrong else ""
        raise DataError(
            f"{where}: must hold {characters} characters (Alphabet/characterNN) of {DRAWERS} PNG images each, "
            f"but holds {len(counts)} characters and {len(names)} images{first}"
        )
    return names


def _part(listing: Listing, rows: Indices, image_size: int) -> ImageSet:
    labels, names = listing.renumbered(rows)
    paths = [listing.paths[row] for row in rows]
    key = {
        "dataset": "omniglot",
        "version": 2,
        "image_size": image_size,
        "source": listing.fingerprint,
        "part": paths[0].split("/")[0],
        "decoded by": pillow_version,
    }
    images = cached_images(key, lambda: {"images": _decode(listing, paths, image_size)})["images"]
    return ImageSet(images, labels, names)


def _decode(listing: Listing, paths: list[str], image_size: int) -> Images:
    images = np.empty((len(paths), image_size, image_size, 1), dtype=np.uint8)
    for i, (path, data) in enumerate(zip(paths, listing.source.read(paths), strict=True)):
        paper = decode_grey(data, f"{listing.source.path}/{path}", SIZE)
        images[i, :, :, 0] = 255 - np.asarray(paper.resize((image_size, image_size), Image.Resampling.LANCZOS))
    return images
