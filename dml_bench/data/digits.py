"""The 1,797 handwritten digits that ship with scikit-learn: the smallest real data set, nothing to download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image
from pydantic import Field

from dml_bench.data.dataset import DATASETS, Images, ImageSet, Labels, Split


@DATASETS.register("digits")
def digits(root: Path | None, /, *, image_size: Annotated[int, Field(ge=8, le=64)] = 16) -> Split:
    """Load scikit-learn's 8 x 8 digits: 0 to 4 to train (901 images), 5 to 9 to test (896).

    One grey channel, ink bright on black. The 17 grey levels are spread over 0 to 255, then the images are enlarged
    bilinearly, since 8 pixels are too few for a network that halves them four times; ``image_size=8`` leaves them.
    ``root`` is not used.

    Source:
        Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI repository, 1998 (its test half).
    """
    from sklearn.datasets import load_digits  # a second that only this data set pays for

    bunch = load_digits()
    small = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    large = [Image.fromarray(image).resize((image_size, image_size), Image.Resampling.BILINEAR) for image in small]
    images = np.stack([np.asarray(image) for image in large])[..., None]
    labels = bunch.target.astype(np.int64)
    return Split("digits", _part(images, labels, range(5)), _part(images, labels, range(5, 10)))


def _part(images: Images, labels: Labels, classes: range) -> ImageSet:
    chosen = np.isin(labels, classes)
    return ImageSet(images[chosen], labels[chosen] - classes[0], tuple(map(str, classes)))
