"""Gradients: right where they exist, finite where the formula has a pole, in double and in single precision."""

import subprocess
import sys

import pytest
import torch

from dml_bench.errors import DataError
from dml_bench.losses import LOSSES, build
from dml_bench.losses.numerics import masked_logsumexp, pairwise_distances, safe_sqrt, softplus
from dml_bench.losses.regularizers import merge_centers

ANGULAR = [("arcface", {"overflow": mode}) for mode in ("continuous", "easy", "none")]
ALL = [(entry.name, {}) for entry in LOSSES] + ANGULAR
PROXY = [(key, options) for key, options in ALL if hasattr(build(key, 2, 2, class_counts=torch.ones(2)), "centers")]


@pytest.mark.parametrize(("key", "options"), [c for c in ALL if c[0] != "circle"], ids=str)  # it has constant weights
def test_gradients_equal_finite_differences(make, key, options, clustered):
    loss = make(key, **options)
    x = clustered.x.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, clustered.y), x)
    if hasattr(loss, "centers"):
        centers = loss.centers.detach().clone().requires_grad_()
        with_centers = lambda c: torch.func.functional_call(loss, {"centers": c}, (x.detach(), clustered.y))  # noqa: E731
        assert torch.autograd.gradcheck(with_centers, centers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("key", "options"), PROXY, ids=str)
def test_gradients_are_finite_at_and_near_the_poles(key, options, dtype):
    torch.manual_seed(0)
    loss = build(key, 4, 16, class_counts=torch.arange(1, 5), **options).to(dtype)
    c = loss.centers.detach()[..., 0, :].reshape(-1, 16)[:4]
    near = [c + step * torch.randn_like(c) for step in (1e-7, 1e-5, 5e-5, 1e-4)]
    x = torch.cat([c, -c, 7 * c, 0 * c, 1e-20 * c, 1e15 * c, *near, *(-n for n in near)]).requires_grad_()
    value = loss(x, torch.arange(4).repeat(len(x) // 4))
    value.backward()
    assert value.isfinite()
    assert x.grad.isfinite().all()
    assert loss.centers.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_pair_gradients_are_finite_for_equal_opposite_and_zero_embeddings(key, dtype):
    torch.manual_seed(0)
    a = torch.randn(3, 16, dtype=dtype)
    x = torch.cat([a, a, -a, 0 * a, a * (1 + 1e-6)]).requires_grad_()
    for y in (torch.arange(3).repeat(5), torch.arange(15) % 5, torch.zeros(15, dtype=torch.int64)):
        loss = build(key, 5, 16, class_counts=torch.arange(1, 6)).to(dtype)
        value = loss(x, y)
        (gradient,) = torch.autograd.grad(value, x)
        assert value.isfinite()
        assert gradient.isfinite().all()


def test_coincident_centers_have_finite_gradients():
    for spread in (0.0, 1e-8, 1e-4):
        loss = build("softtriple", 3, 8, centers_per_class=4)
        loss.centers.data = torch.ones(3, 4, 8) + spread * torch.randn(3, 4, 8)
        loss(torch.randn(5, 8), torch.tensor([0, 1, 2, 0, 1])).backward()
        assert loss.centers.grad.isfinite().all()


def test_a_sample_opposite_to_its_proxy_still_counts():
    loss = build("proxy_nca", 2, 2, scale=32.0)
    loss.centers.data = torch.tensor([[[1.0, 0]], [[-1.0, 0]]])
    x = torch.tensor([[-1.0, 0]], requires_grad=True)
    value = loss(x, torch.tensor([0]))
    assert value.item() == pytest.approx(128.0)


def test_embeddings_far_from_the_origin_keep_their_distances():
    torch.manual_seed(0)
    x = (1000 + 0.01 * torch.randn(40, 8, dtype=torch.float64)).float()
    wanted = torch.tensor([[(a - b).norm() for b in x.double()] for a in x.double()])
    torch.testing.assert_close(pairwise_distances(x), wanted.float(), rtol=1e-5, atol=0)


def test_safe_sqrt_is_exact_and_flat_where_there_is_no_root():
    values = torch.tensor([-1.0, -1e-30, 0.0, 1e-30, 4.0], dtype=torch.float64, requires_grad=True)
    roots = safe_sqrt(values)
    (slope,) = torch.autograd.grad(roots.sum(), values)
    assert roots.tolist() == [0, 0, 0, 1e-15, 2]
    assert slope.tolist() == pytest.approx([0, 0, 0, 5e14, 0.25])


def test_a_wholly_masked_row_has_finite_gradients():
    values = torch.randn(2, 3, requires_grad=True)
    mask = torch.tensor([[True, False, True], [False, False, False]])
    result = masked_logsumexp(values, mask)
    (gradient,) = torch.autograd.grad(softplus(result).sum(), values)
    assert result[0].item() == pytest.approx(values[0, [0, 2]].logsumexp(0).item())
    assert result[1] < -1e29
    assert gradient.isfinite().all()
    assert (gradient[~mask] == 0).all()


def test_softplus_keeps_its_tail():
    values = torch.tensor([-800.0, -1e30, 0.0, 25.0, 1e30], dtype=torch.float64)
    exact = [0.0, 0.0, 0.6931471805599453, 25 + 1.3887943864771144e-11, 1e30]
    assert softplus(values).tolist() == pytest.approx(exact, rel=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lengths_whose_squares_overflow_do_not_matter_where_length_does_not(dtype):
    torch.manual_seed(0)
    loss = build("norm_softmax", num_classes=7, embedding_dim=6)
    x, y = torch.randn(5, 6).to(dtype), torch.arange(5)
    torch.testing.assert_close(
        loss((1e25 * x).to(dtype), y), loss(x, y), rtol=2e-2 if dtype is torch.bfloat16 else 1e-5, atol=0
    )


def test_what_is_no_tensor_is_refused():
    """In a process of its own, where no runtime type check answers first."""
    code = """
import torch, dml_bench
loss = dml_bench.losses.build("norm_softmax", num_classes=7, embedding_dim=6)
x, y = torch.randn(1, 6), torch.tensor([0])
for batch in ([x.tolist(), y], [x, [0]], [x, y, [0]], [x.numpy(), y]):
    try:
        loss(*batch)
    except dml_bench.DataError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    names = ["embeddings", "labels", "indices", "embeddings"]
    kinds = ["list", "list", "list", "ndarray"]
    expected = [f"{name} must be a tensor, not {kind}" for name, kind in zip(names, kinds, strict=True)]
    assert done.stdout.splitlines() == expected


def test_small_and_unsigned_labels_and_listed_counts_are_fine():
    loss = build("class_balanced", num_classes=3, embedding_dim=6, class_counts=[5, 3, 1])
    x = torch.randn(3, 6)
    values = {loss(x, torch.tensor([0, 1, 2], dtype=kind)).item() for kind in (torch.uint8, torch.uint16, torch.int64)}
    assert len(values) == 1


@pytest.mark.parametrize("length", [1e-3, 1e19, 1e30])
def test_centers_of_any_length_are_merged(length):
    torch.manual_seed(0)
    centers = torch.randn(4, 3, 5)
    scaled = (length * centers).requires_grad_()
    value = merge_centers(scaled)
    torch.testing.assert_close(value, merge_centers(centers))
    value.backward()
    assert scaled.grad.isfinite().all()


def test_npair_says_that_its_products_overflow():
    x = 1e20 * torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(DataError, match=r"npair multiplies .* overflow torch.float32: the longest is \de\+20 long"):
        build("npair", 2, 3)(x, torch.tensor([0, 0, 1, 1]))
    assert build("npair", 2, 3)(x.double(), torch.tensor([0, 0, 1, 1])).isfinite()
