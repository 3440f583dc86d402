"""Decode the images of a listing."""

from __future__ import annotations

from io import BytesIO
from typing import Annotated

import numpy as np
from PIL import Image, ImageOps
from PIL import __version__ as pillow_version
from pydantic import Field

from dml_bench.data.cache import cached_images
from dml_bench.data.dataset import Images, ImageSet, Split
from dml_bench.data.listing import GALLERY, QUERY, TEST, TRAIN, Listing, make_split
from dml_bench.errors import DataError


def decode(listing: Listing, /, *, image_size: Annotated[int, Field(ge=8, le=1024)] = 64) -> Split:
    """INTERIM: resize the short side, crop the centre."""
    parts = []
    for roles in ((TRAIN,), (TEST, QUERY, GALLERY)):
        chosen = listing.part(*roles)
        labels, names = listing.renumbered(chosen)
        key = {"source": listing.fingerprint, "size": image_size, "chosen": chosen.tolist(), "by": pillow_version}
        images = cached_images(key, lambda chosen=chosen: {"images": _read(listing, chosen, image_size)})["images"]
        parts.append(ImageSet(images, labels, names))
    return make_split(listing, *parts)


def _read(listing: Listing, chosen: np.ndarray, size: int) -> Images:
    paths = [listing.paths[i] for i in chosen]
    out = np.empty((len(paths), size, size, 3), dtype=np.uint8)
    for i, data in enumerate(listing.source.read(paths)):
        try:
            with Image.open(BytesIO(data)) as image:
                picture = to_rgb(image)
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"{listing.source.path}/{paths[i]}: not a readable image: {error}") from error
        if listing.boxes is not None:
            picture = picture.crop(tuple(listing.boxes[chosen[i]]))
        out[i] = np.asarray(ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS))
    return out


def to_rgb(image: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(image).convert("RGB")
