"""How many of a class's centers are still distinct: SoftTriple's regulariser pulls superfluous ones together."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def centers_left(centers: Float[Tensor, "C K D"], distance: float = 0.1) -> Int[Tensor, C]:
    """Count each class's centers after merging those that a chain of steps shorter than ``distance`` connects.

    Args:
        centers: the centers, of any length; directions are compared.
        distance: between unit vectors, in [0, 2].

    Returns:
        The number of connected components per class, 1 to K.

    Source: the number-of-centers study of SoftTriple (Qian et al., ICCV 2019, Sec. 4.1).
    """
    unit = F.normalize(centers.double(), dim=-1)
    squared = (2 - 2 * torch.einsum("ckd,cld->ckl", unit, unit)).clamp(min=0)
    reach = (squared < distance**2).double()
    for _ in range(centers.shape[1].bit_length()):
        reach = ((reach @ reach) > 0).double()  # twice as many steps
    return (reach.argmax(-1) == torch.arange(centers.shape[1], device=centers.device)).sum(-1)
