"""Decode the images of a listing."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import numpy as np
from PIL import Image, ImageOps
from PIL import __version__ as pillow_version
from pydantic import Field

from dml_bench.data.cache import Arrays, cached_images
from dml_bench.data.dataset import Images, ImageSet, Split
from dml_bench.data.listing import GALLERY, QUERY, TEST, TRAIN, Indices, Listing, make_split
from dml_bench.data.photo import read_photo


def decode(listing: Listing, /, *, image_size: Annotated[int, Field(ge=8, le=1024)] = 64) -> Split:
    """INTERIM: resize the short side, crop the centre."""
    parts = []
    for roles in ((TRAIN,), (TEST, QUERY, GALLERY)):
        chosen = listing.part(*roles)
        labels, names = listing.renumbered(chosen)
        key = {"source": listing.fingerprint, "size": image_size, "chosen": chosen.tolist(), "by": pillow_version}
        images = cached_images(key, partial(_arrays, listing, chosen, image_size))["images"]
        parts.append(ImageSet(images, labels, names))
    return make_split(listing, *parts)


def _arrays(listing: Listing, chosen: Indices, size: int) -> Arrays:
    return {"images": _read(listing, chosen, size)}


def _read(listing: Listing, chosen: Indices, size: int) -> Images:
    paths = [listing.paths[i] for i in chosen]
    out = np.empty((len(paths), size, size, 3), dtype=np.uint8)
    for i, data in enumerate(listing.source.read(paths)):
        box = None if listing.boxes is None else tuple(listing.boxes[chosen[i]].tolist())
        picture = read_photo(data, f"{listing.source.path}/{paths[i]}", box=box)
        out[i] = np.asarray(ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS))
    return out
