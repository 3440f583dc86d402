"""Images that need not lie in memory: read from a map or decoded when asked for. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


@runtime_checkable
class ImageArray(Protocol):
    """Images of one size, ``(N, H, W, C)`` uint8; a numpy array is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N, H, W, C."""

    @property
    def dtype(self) -> Any:
        """Always uint8."""

    @property
    def ndim(self) -> int:
        """Always 4."""

    def __len__(self) -> int:
        """How many images there are."""

    def __getitem__(self, rows: Any, /) -> Any:
        """Return the images of a slice or of an array of positions."""


@runtime_checkable
class Photos(Protocol):
    """Photos, each of its own size."""

    def __len__(self) -> int:
        """How many photos there are."""

    def take(self, rows: Rows) -> list[Images]:
        """Return photos ``(H, W, C)`` uint8; read-only, as they may be views of a memory map."""


class LazyImages:
    """Images that a function makes when they are asked for.

    Args:
        shape: N, H, W, C.
        make: images ``(M, H, W, C)`` at ``(M,)`` positions.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, shape: tuple[int, ...], make: Callable[[Rows], Images]) -> None:
        self.shape, self._make = shape, make

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Images:
        wanted: Any = np.arange(len(self))[rows]
        return self._make(wanted) if wanted.ndim else self._make(wanted[None])[0]


class SelectedImages(LazyImages):
    """Some images of an array, which is read when they are asked for."""

    @classmethod
    def of(cls, images: ImageArray, rows: Rows) -> ImageArray:
        """Select ``rows``; a run of consecutive ones is a plain slice."""
        if isinstance(images, np.ndarray) and len(rows) and (np.diff(rows) == 1).all():
            chosen: ImageArray = images[rows[0] : rows[-1] + 1]
            return chosen
        return cls((len(rows), *images.shape[1:]), lambda wanted: images[rows[wanted]])


@dataclass(frozen=True)
class LazyPhotos:
    """Photos that a function makes when they are asked for."""

    count: int
    make: Callable[[Rows], list[Images]]

    def __len__(self) -> int:
        return self.count

    def take(self, rows: Rows) -> list[Images]:
        """Make these photos."""
        return self.make(rows)


class SelectedPhotos(LazyPhotos):
    """Some photos of others."""

    @classmethod
    def of(cls, photos: Photos, rows: Rows) -> Photos:
        """Select ``rows``."""
        return cls(len(rows), lambda wanted: photos.take(rows[wanted]))


@dataclass(frozen=True)
class UniformPhotos:
    """Images of one size, taken for photos."""

    images: ImageArray

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: Rows) -> list[Images]:
        """Return these images."""
        return list(self.images[rows])


class PackedPhotos:
    """Photos one behind the other in a flat array.

    Args:
        pixels: ``(total,)`` uint8; may be a memory map.
        shapes: ``(N, 3)`` height, width and channels of each.
    """

    def __init__(self, pixels: Images, shapes: npt.NDArray[np.int64]) -> None:
        self.pixels, self.shapes = pixels, shapes
        self.ends = np.cumsum(shapes.prod(axis=1))

    def __len__(self) -> int:
        return len(self.shapes)

    def take(self, rows: Rows) -> list[Images]:
        """Return views of these photos."""
        return [self._view(row) for row in rows.tolist()]

    def _view(self, row: int) -> Images:
        height, width, channels = self.shapes[row].tolist()
        end = int(self.ends[row])
        return self.pixels[end - height * width * channels : end].reshape(height, width, channels)


def pack(photos: Sequence[Images]) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of ``PackedPhotos``."""
    return {
        "pixels": np.concatenate([photo.reshape(-1) for photo in photos]),
        "shapes": np.array([photo.shape for photo in photos], dtype=np.int64),
    }
