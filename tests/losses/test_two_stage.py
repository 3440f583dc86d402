"""The second stage of noise-resistant training: it begins, starts anew, leaves images out, and is state."""

import pytest
import torch

from dml_bench.epoch import EpochContext
from dml_bench.losses import build

C, D, N = 4, 5, 12


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(N, D, dtype=torch.float64)


@pytest.fixture
def y():
    return torch.arange(N) % C


def two_stage(**options):
    torch.manual_seed(1)
    return build("nra_two_stage", C, D, **{"from_epoch": 3, **options}).double()


def begin(loss, epoch, x, y):
    with torch.no_grad():
        loss.on_epoch_start(EpochContext(epoch, y, lambda dropout: x, torch.Generator()))


@pytest.mark.parametrize("stage", [1, 2])
def test_equals_plain_loops(stateful, x, y, stage):
    loss = two_stage(beta=0.7, margin=0.9, scale=8.0)
    if stage == 2:
        begin(loss, 3, x, y)
    expected = stateful.nra_two_stage(
        x.tolist(), y.tolist(), loss.centers.tolist(), beta=0.7, margin=0.9, scale=8.0, stage=stage
    )
    assert loss(x, y).item() == pytest.approx(expected, rel=1e-10)


def test_the_second_stage_begins_once_with_new_centers(x, y):
    loss = two_stage()
    first = loss.centers.detach().clone()
    for epoch in (1, 2):
        begin(loss, epoch, x, y)
    assert loss.stage == 1
    assert torch.equal(loss.centers, first)
    begin(loss, 3, x, y)
    second = loss.centers.detach().clone()
    assert loss.stage == 2
    assert (second != first).all()
    begin(loss, 4, x, y)
    assert torch.equal(loss.centers, second)


def test_a_run_taken_up_later_still_has_its_second_stage(x, y):
    loss = two_stage()
    begin(loss, 7, x, y)
    assert loss.stage == 2


def test_uncertain_images_are_left_out(x, y):
    loss = two_stage(scale=3.0, drop_below=0.5)
    certainty = loss.class_scores(x).softmax(dim=1).amax(dim=1)
    begin(loss, 3, x, y)
    kept = certainty >= 0.5
    assert 0 < kept.sum() < N
    assert torch.equal(loss.kept, kept)
    indices, rows = torch.arange(N), x.clone().requires_grad_()
    value = loss(rows, y, indices)
    value.backward()
    assert value.item() == pytest.approx(loss(x[kept], y[kept]).item())
    assert torch.equal(rows.grad.abs().sum(dim=1) > 0, kept)

    lost = x[~kept].clone().requires_grad_()
    nothing = loss(lost, y[~kept], indices[~kept])
    nothing.backward()
    assert nothing == 0
    assert (lost.grad == 0).all()


def test_it_is_state(x, y):
    loss, other = two_stage(scale=3.0, drop_below=0.5), two_stage()
    begin(loss, 3, x, y)
    other.scale = 3.0
    other.load_state_dict(loss.state_dict())
    assert other.stage == 2
    assert torch.equal(other(x, y, torch.arange(N)), loss(x, y, torch.arange(N)))


def test_from_the_first_epoch_it_is_nra(x, y):
    loss, nra = two_stage(from_epoch=1), build("nra", C, D).double()
    nra.centers = loss.centers
    assert torch.equal(loss(x, y), nra(x, y))
    begin(loss, 1, x, y)
    assert nra.centers is loss.centers
    assert torch.equal(loss(x, y), nra(x, y))
