"""From images to embeddings."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from dml_bench import ranks
from dml_bench.data.ahead import ahead
from dml_bench.data.augment import to_float
from dml_bench.data.pictures import ImageArray
from dml_bench.errors import DataError
from dml_bench.models.modes import evaluation_mode


def extract(
    model: nn.Module,
    images: ImageArray,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 512,
) -> Float32[np.ndarray, "N D"]:
    """Embed all images in evaluation mode, without gradients and without changing the model.

    Of several ranks each embeds some of the batches; all of them return the embeddings of all images, bit by bit those
    of one process, as the batches are the same.

    Args:
        model: maps float images ``(N, C, H, W)`` in [0, 1] to ``(N, D)``; lies on ``device``.
        images: ``(N, H, W, C)`` uint8, may be a memory map; one batch at a time is read.
        device: where the batches go.
        batch_size: images per forward pass, at least 1.

    Raises:
        DataError: if there is no image, or the model returns something else than one vector per image.
    """
    if not len(images):
        raise DataError("there is no image to embed")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    parts, rows = [], ranks.blocks(len(images), batch_size)
    with evaluation_mode(model), torch.no_grad():
        # Copies, as torch cannot share read-only memory.
        starts = range(rows.start, rows.stop, batch_size)
        copies = (np.array(images[start : start + batch_size]) for start in starts)
        for batch in ahead(copies, torch.device(device)):
            output = model(to_float(torch.from_numpy(batch).to(device)))
            if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != len(batch):
                shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                raise DataError(f"the model must map {len(batch)} images to ({len(batch)}, D), not {shape}")
            parts.append(output.float().cpu())
        return ranks.gathered_blocks(parts, len(images), batch_size, torch.device(device)).numpy()
