"""How much memory a step of a proxy loss takes, and where that is too much to begin with."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from dml_bench.errors import DataError

LIMIT = 4e9
"""Bytes that a step may take above centers and optimizer state."""

PER_SIMILARITY, PER_CENTER = 6, 2
"""Numbers alive at the peak of forward and backward: for each similarity, and for each number of the centers.

Measured for cosines; an inner product keeps 3 instead of 6.
"""


def check_memory(size: int, heads: Sequence[Float[Tensor, "C K D"]]) -> None:
    """Refuse a batch of ``size`` samples that takes more than ``LIMIT`` because of the number of classes.

    Where samples outnumber classes, as pixels do, the size of the batch is what to choose, and nothing is refused.

    Raises:
        DataError: with the memory, and what to do.
    """
    classes, per_class, _ = heads[0].shape
    numbers = sum(PER_SIMILARITY * size * classes * per_class + PER_CENTER * head.numel() for head in heads)
    needed = numbers * heads[0].element_size()
    if needed > LIMIT and classes > size:
        raise DataError(
            f"{size} embeddings beside {len(heads) * classes * per_class} centers would need about "
            f"{needed / 1e9:.1f} GB of working memory, more than {LIMIT / 1e9:g} GB: set sampled_classes of the loss "
            "'proxy', which compares with some of the classes in each step, or take smaller batches"
        )
