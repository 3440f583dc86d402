"""From a map of features to one vector."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Pooling = Literal["mean", "max", "mean_max"]
"""Over all positions: the mean (GAP), the maximum (GMP), or the sum of the two."""


class Pool(nn.Module):
    """Pool each feature over all positions of the map, or over each cell of a ``grid`` x ``grid`` of them.

    With ``grid`` > 1 the result tells what is where in the image, cells side by side in ``grid ** 2`` as many features.

    Source: ``mean_max`` is what Proxy-Anchor's code does (Kim et al., CVPR 2020), ``max`` that of ProxyNCA++.
    Differs: where the greatest value occurs more than once, its gradient is shared evenly.
    """

    def __init__(self, how: Pooling, grid: int = 1) -> None:
        super().__init__()
        self.how, self.grid = how, grid

    def forward(self, maps: Float[Tensor, "N F H W"]) -> Float[Tensor, "N G"]:
        """Return one number per feature and cell."""
        if self.how == "max":
            return self._greatest(maps)
        mean = F.adaptive_avg_pool2d(maps, self.grid).flatten(1)
        return mean if self.how == "mean" else mean + self._greatest(maps)

    def _greatest(self, maps: Float[Tensor, "N F H W"]) -> Float[Tensor, "N G"]:
        return maps.amax(dim=(2, 3)) if self.grid == 1 else F.adaptive_max_pool2d(maps, self.grid).flatten(1)

    def extra_repr(self) -> str:
        """Name the kind of pooling."""
        return self.how
