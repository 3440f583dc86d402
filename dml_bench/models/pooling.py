"""From a map of features to one vector."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Pooling = Literal["mean", "max", "mean_max"]
"""Over all positions: the mean (GAP), the maximum (GMP), or the sum of the two."""


class Pool(nn.Module):
    """Pool each feature over all positions of the map.

    Source: ``mean_max`` is what Proxy-Anchor's code does (Kim et al., CVPR 2020), ``max`` that of ProxyNCA++.
    Differs: where the greatest value occurs more than once, its gradient is shared evenly.
    """

    def __init__(self, how: Pooling) -> None:
        super().__init__()
        self.how = how

    def forward(self, maps: Float[Tensor, "N F H W"]) -> Float[Tensor, "N F"]:
        """Return one number per feature."""
        if self.how == "max":
            return maps.amax(dim=(2, 3))
        mean = F.adaptive_avg_pool2d(maps, 1).flatten(1)
        return mean if self.how == "mean" else mean + maps.amax(dim=(2, 3))

    def extra_repr(self) -> str:
        """Name the kind of pooling."""
        return self.how
