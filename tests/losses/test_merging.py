import torch

from dml_bench.losses.merging import centers_left


def test_chains_of_close_centers_count_as_one():
    angles = torch.tensor([[0.0, 0.09, 0.18, 1.0], [0.0, 1.0, 2.0, 3.0], [0.5, 0.5, 0.5, 0.5]])
    centers = torch.stack([angles.cos(), angles.sin()], -1) * torch.tensor([1.0, 2.0, 3.0, 4.0])[None, :, None]
    assert centers_left(centers).tolist() == [2, 4, 1]


def test_a_long_chain_is_followed_to_its_end():
    angles = torch.arange(20)[torch.randperm(20, generator=torch.Generator().manual_seed(0))] * 0.09
    assert centers_left(torch.stack([angles.cos(), angles.sin()], -1)[None]).tolist() == [1]
