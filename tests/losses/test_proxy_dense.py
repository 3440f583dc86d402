"""Losses of the softmax and proxy family on pixels, as in fully convolutional networks."""

import pytest
import torch

from dml_bench.errors import DataError
from dml_bench.losses import LOSSES, build

C, D = 5, 6
COUNTS = torch.tensor([9, 1, 4, 30, 2])
PIXELWISE = [e.name for e in LOSSES if build(e.name, C, D, class_counts=COUNTS).takes_pixels]


@pytest.fixture
def dense():
    torch.manual_seed(0)
    x = torch.randn(2, D, 3, 4, dtype=torch.float64, requires_grad=True)
    y = torch.randint(C, (2, 3, 4))
    y[0, 0, :2], y[1, 2, 3] = 255, 255
    return x, y


def flat(x, y, mark=255):
    rows = torch.stack([x[n, :, h, w] for n, h, w in (y != mark).nonzero().tolist()])
    return rows, y[y != mark]


def test_which_losses_take_pixels():
    assert len(PIXELWISE) >= 31
    assert "contrastive" not in PIXELWISE


@pytest.mark.parametrize("key", PIXELWISE)
def test_pixels_equal_the_flattened_form(make, dense, key):
    x, y = dense
    loss = make(key, class_counts=COUNTS)
    value = loss(x, y, ignore_index=255)
    torch.testing.assert_close(value, loss(*flat(x, y)))
    (gradient,) = torch.autograd.grad(value, x)
    ignored = (y == 255)[:, None].expand_as(x)
    assert (gradient[ignored] == 0).all()
    if key != "uniform_loss":
        assert (gradient[~ignored] != 0).any()


@pytest.mark.parametrize("key", PIXELWISE)
def test_nothing_but_ignored_pixels_costs_nothing(make, dense, key):
    x, y = dense
    value = make(key, class_counts=COUNTS)(x, torch.full_like(y, 255))
    value.backward()
    assert value == 0
    assert (x.grad == 0).all()


@pytest.mark.parametrize("key", ["softmax_ce", "arcface", "softtriple", "proxy_anchor", "em_softmax"])
def test_scores_of_pixels(make, dense, key):
    x, _ = dense
    loss = make(key)
    scores = loss.class_scores(x)
    assert scores.shape == (2, C, 3, 4)
    torch.testing.assert_close(scores[1, :, 2, 0], loss.class_scores(x[1:, :, 2, 0])[0])


def test_the_mark_may_be_a_fact_of_the_task_an_argument_or_the_usual_one(make, dense):
    x, y = dense
    usual = make("arcface")(x, y)
    other = torch.where(y == 255, 4, y)
    assert torch.equal(make("arcface", ignore_index=255)(x, y), usual)
    told = make("arcface", ignore_index=255)(x, other, ignore_index=4)
    assert torch.equal(told, make("arcface", ignore_index=4)(x, other))
    torch.testing.assert_close(told, make("arcface")(*flat(x, other, 4)))
    torch.testing.assert_close(make("arcface", ignore_index=4)(*flat(x, y)), told)  # rows of a flat batch too


def test_a_class_is_never_taken_for_the_usual_mark():
    torch.manual_seed(0)
    loss, x = build("arcface", 256, 4), torch.randn(1, 4, 2, 2)
    y = torch.full((1, 2, 2), 255)
    assert loss(x, y) > 0
    assert loss(x, y, ignore_index=255) == 0


def test_ignored_pixels_may_hold_anything(make, dense):
    x, y = dense
    x = torch.where((y == 255)[:, None], torch.nan, x)
    assert make("am_softmax")(x, y).isfinite()


def test_mining_ranks_valid_pixels_of_the_whole_batch(make, dense):
    x, y = dense
    loss = make("ohem", keep_ratio=0.5)
    (gradient,) = torch.autograd.grad(loss(x, y), x)
    assert (gradient.abs().sum(dim=1) > 0).sum() == (y != 255).sum() // 2


def test_wrong_pixels_are_refused(make, dense):
    x, y = dense
    with pytest.raises(DataError, match=r"labels must have shape \(2, 3, 4\), one per pixel, not \(2, 4, 3\)"):
        make("arcface")(x, y.movedim(1, 2))
    with pytest.raises(DataError, match=r"lie in \[0, 5\), not 255"):
        make("arcface")(x, y, ignore_index=4)
    with pytest.raises(DataError, match=r"shape \(N, 6\)"):
        make("contrastive")(x, y)
