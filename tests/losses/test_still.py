import torch
from torch import nn

from dml_bench.losses.still import centers_of, still_centers


class Centered(nn.Module):
    def __init__(self, centers):
        super().__init__()
        self.centers = nn.Parameter(centers)


def test_centers_that_only_shrink_stood_still_and_others_moved():
    loss = Centered(torch.randn(5, 3, 8))
    start = centers_of(loss)
    with torch.no_grad():
        loss.centers *= 0.7  # as weight decay does
    assert still_centers(start, loss) == {"centers": 15, "centers_still": 15}
    with torch.no_grad():
        loss.centers[1] += 0.01
    assert still_centers(start, loss) == {"centers": 15, "centers_still": 12}


def test_on_a_line_any_change_is_a_move():
    loss = Centered(torch.ones(4, 1, 1))
    start = centers_of(loss)
    with torch.no_grad():
        loss.centers[0] = 2
    assert still_centers(start, loss) == {"centers": 4, "centers_still": 3}


def test_a_loss_without_centers_has_no_counts():
    assert still_centers(centers_of(nn.Linear(2, 2)), nn.Linear(2, 2)) == {}
