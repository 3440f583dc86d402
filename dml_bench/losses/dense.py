"""Dense use: an embedding per pixel, ``(N, D, H, W)`` with ``(N, H, W)`` labels, as a batch of pixels."""

from __future__ import annotations

from torch import Tensor

from dml_bench.errors import DataError

USUAL_MARK = 255
"""Label of pixels to leave out of a dense batch, where it is no class and nothing else is said."""


def flatten(
    embeddings: Tensor, labels: Tensor, indices: Tensor | None, ignore_index: int | None, num_classes: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return one row per sample or pixel, in the order of the labels, without those labelled ``ignore_index``.

    Args:
        embeddings: ``(N, D)``, or ``(N, D, H, W)``.
        labels: ``(N,)``, or ``(N, H, W)``.
        indices: ``(N,)``; each pixel gets that of its image.
        ignore_index: label of what is left out; None leaves out 255 of a dense batch if that is no class, else nothing.
        num_classes: C.

    Raises:
        DataError: when dense embeddings and labels do not fit together.
    """
    if embeddings.ndim == 4:
        size = (embeddings.shape[0], *embeddings.shape[2:])
        if labels.shape != size:
            raise DataError(f"labels must have shape {size}, one per pixel, not {tuple(labels.shape)}")
        if indices is not None and indices.shape == size[:1]:
            indices = indices[:, None, None].expand(size).flatten()
        embeddings, labels = embeddings.movedim(1, -1).flatten(0, 2), labels.flatten()
        ignore_index = USUAL_MARK if ignore_index is None and num_classes <= USUAL_MARK else ignore_index
    if ignore_index is None or labels.shape != embeddings.shape[:1]:
        return embeddings, labels, indices
    kept = labels != ignore_index
    same = indices is not None and indices.shape == kept.shape
    return embeddings[kept], labels[kept], indices[kept] if same and indices is not None else indices
