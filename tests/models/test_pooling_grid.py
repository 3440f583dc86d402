"""Pooling cell by cell, beside pooling of each cut-out cell."""

import pytest
import torch

from dml_bench.models.backbone import BACKBONES
from dml_bench.models.pooling import Pool


@pytest.mark.parametrize("how", ["mean", "max", "mean_max"])
def test_cells_are_pooled_as_maps_of_their_own(how):
    maps = torch.randn(3, 5, 6, 4, generator=torch.Generator().manual_seed(0))
    cells = [maps[:, :, top : top + 3, left : left + 2] for top in (0, 3) for left in (0, 2)]
    expected = torch.stack([Pool(how)(cell) for cell in cells], dim=2).flatten(1)
    torch.testing.assert_close(Pool(how, 2)(maps), expected)


def test_a_grid_tells_what_is_where():
    torch.manual_seed(0)
    shapes = {grid: BACKBONES.build("convnet", (16, 16, 1), width=4, grid=grid).eval() for grid in (1, 2)}
    image = torch.zeros(1, 1, 16, 16)
    image[..., 4:8, 4:8] = 1
    moved = image.roll(8, dims=3)
    assert shapes[2].features == 4 * shapes[1].features == shapes[2](image).shape[1]
    assert not torch.allclose(shapes[2](image), shapes[2](moved), atol=0.01)
