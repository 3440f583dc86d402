"""What must hold of the formulas: identities between losses, limits, bounds and symmetries."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dml_bench.losses import build
from dml_bench.losses.centers import LogSumExp, Soft, gaussian, nearest, uniform_over_centers
from dml_bench.losses.margins import Angular, Target
from dml_bench.losses.objectives import nca, softmax
from dml_bench.losses.regularizers import merge_centers

PROXY = ["norm_softmax", "am_softmax", "arcface", "proxy_nca", "proxy_nca_pp", "softtriple", "hardtriple"]


def same_centers(*losses):
    for loss in losses[1:]:
        loss.centers.data = losses[0].centers.data.expand_as(loss.centers).clone()
    return losses


def agree(batch, first, second, **tolerance):
    values, gradients = [], []
    for loss in (first, second):
        x = batch.x.clone().requires_grad_()
        value = loss(x, batch.y)
        value.backward()
        values.append(value)
        gradients.append(x.grad)
    torch.testing.assert_close(*values, **tolerance)
    torch.testing.assert_close(*gradients, **tolerance)


def test_softtriple_with_one_center_is_norm_softmax(make, batch):
    one = make("softtriple", centers_per_class=1, margin=0.0)
    agree(batch, *same_centers(make("norm_softmax"), one))


@pytest.mark.parametrize("pooling", ["soft", "logsumexp"])
def test_softtriple_with_identical_centers_is_norm_softmax(make, batch, pooling):
    many = make("softtriple", centers_per_class=4, margin=0.0, regularizer_weight=0.0, pooling=pooling)
    agree(batch, *same_centers(make("norm_softmax"), many))


def test_softtriple_with_small_gamma_is_hardtriple(make, batch):
    hard = make("hardtriple", centers_per_class=3)
    soft = make("softtriple", centers_per_class=3, gamma=1e-4, regularizer_weight=0.0)
    agree(batch, *same_centers(hard, soft), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("overflow", ["insightface", "continuous", "easy", "none"])
def test_no_margin_is_norm_softmax(make, batch, overflow):
    plain = make("norm_softmax")
    agree(batch, *same_centers(plain, make("am_softmax", margin=0.0, scale=20.0)))
    agree(batch, *same_centers(plain, make("arcface", margin=0.0, scale=20.0, overflow=overflow)))


def test_proxy_nca_pp_is_norm_softmax_of_twice_the_scale(make, batch):
    agree(batch, *same_centers(make("norm_softmax", scale=10.0), make("proxy_nca_pp", temperature=0.2)))


def test_softplus_of_a_proxy_nca_row_is_the_proxy_nca_pp_row(make, batch):
    torch.manual_seed(0)
    logits = 5 * torch.randn(len(batch.y), 5, dtype=torch.float64)
    rows = nca(logits, batch.y)
    torch.testing.assert_close(torch.log1p(rows.exp()), softmax(logits, batch.y))


def test_proxy_nca_reaches_its_lower_bound_with_two_classes():
    loss = build("proxy_nca", 2, 3, scale=5.0).double()
    loss.centers.data = torch.tensor([[[1.0, 0, 0]], [[-1.0, 0, 0]]], dtype=torch.float64)
    x = torch.tensor([[2.0, 0, 0]], dtype=torch.float64)
    assert loss(x, torch.tensor([0])).item() == pytest.approx(-4 * 5.0)


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_norm_softmax_reaches_its_lower_bound_on_the_simplex(scale):
    c = 6
    simplex = torch.eye(c, dtype=torch.float64) - 1 / c
    loss = build("norm_softmax", c, c, scale=scale).double()
    loss.centers.data = simplex[:, None].clone()
    bound = math.log1p((c - 1) * math.exp(-scale * c / (c - 1)))
    assert loss(simplex, torch.arange(c)).item() == pytest.approx(bound, rel=1e-12)


def test_norm_softmax_is_a_smoothed_triplet_loss(make, batch):
    loss = make("norm_softmax")
    logits = loss.class_scores(batch.x).detach()
    p = logits.softmax(dim=1)
    triplets = (p * (logits - logits.gather(1, batch.y[:, None]))).sum(dim=1)
    entropy = torch.special.entr(p).sum(dim=1)
    torch.testing.assert_close(loss(batch.x, batch.y), (triplets + entropy).mean())


@pytest.mark.parametrize("key", PROXY)
def test_gradients_by_the_logits_are_probabilities_minus_the_label(key):
    torch.manual_seed(0)
    logits = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 3, 3, 1])
    objective = nca if key == "proxy_nca" else softmax
    (gradient,) = torch.autograd.grad(objective(logits, labels).sum(), logits)
    torch.testing.assert_close(gradient.sum(dim=1), torch.zeros(4, dtype=torch.float64))
    if objective is softmax:
        wanted = logits.softmax(dim=1) - torch.nn.functional.one_hot(labels, 5)
        torch.testing.assert_close(gradient, wanted.detach())


@settings(max_examples=30, deadline=None)
@given(key=st.sampled_from(PROXY), factor=st.floats(1e-3, 1e3), seed=st.integers(0, 1000))
def test_length_of_embeddings_and_centers_does_not_matter(key, factor, seed):
    torch.manual_seed(seed)
    loss = build(key, 4, 5).double()
    x = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    y = torch.randint(4, (6,))
    value = loss(x, y)
    (gradient,) = torch.autograd.grad(value, x)
    torch.testing.assert_close((x * gradient).sum(dim=1), torch.zeros(6, dtype=torch.float64))
    longer = (factor * x).detach().requires_grad_()
    loss.centers.data *= factor
    again = loss(longer, y)
    torch.testing.assert_close(again, value)
    torch.testing.assert_close(torch.autograd.grad(again, longer)[0] * factor, gradient)


@pytest.mark.parametrize("key", ["contrastive", "triplet_semihard", "multi_similarity"])
def test_normalised_pair_losses_ignore_the_length(make, clustered, key):
    loss = make(key)
    lengths = torch.linspace(0.1, 9, len(clustered.y), dtype=torch.float64)[:, None]
    torch.testing.assert_close(loss(clustered.x * lengths, clustered.y), loss(clustered.x, clustered.y))


def test_order_of_the_batch_does_not_matter(make, key, batch):
    if key == "npair":
        return  # the first sample of a class is its anchor, the second its positive
    loss, order = make(key), torch.randperm(len(batch.y))
    torch.testing.assert_close(loss(batch.x[order], batch.y[order]), loss(batch.x, batch.y))


def test_names_of_classes_do_not_matter(make, key, batch):
    order, counts = torch.randperm(5), torch.tensor([9, 1, 4, 30, 2])
    loss, renamed = make(key, class_counts=counts), make(key, class_counts=counts[order])
    for name, parameter in loss.named_parameters():
        renamed.get_parameter(name).data = parameter.data.index_select(int(parameter.ndim == 4), order)
    torch.testing.assert_close(renamed(batch.x, order.argsort()[batch.y]), loss(batch.x, batch.y))


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("am_softmax", {}),
        ("arcface", {"overflow": "insightface"}),
        ("arcface", {"overflow": "continuous"}),
        ("softtriple", {}),
        ("hardtriple", {}),
    ],
    ids=str,
)
def test_a_larger_margin_never_lowers_the_loss(make, batch, key, options):
    values = [make(key, margin=m, **options)(batch.x, batch.y).item() for m in (0.0, 0.1, 0.3, 0.8, 1.5)]
    assert values == sorted(values)


def margined(margin, cosine):
    return cosine + margin(Target(cosine))


@pytest.mark.parametrize("margin", [0.1, 0.5, 1.5])
def test_the_margined_cosine_falls_with_the_angle(margin):
    cosine = torch.linspace(0, math.pi, 2001, dtype=torch.float64).cos()
    for overflow in ("insightface", "continuous"):
        assert (margined(Angular(margin=margin, overflow=overflow), cosine).diff() < 1e-12).all()
    jumps = {
        mode: margined(Angular(margin=margin, overflow=mode), cosine).diff().abs().max()
        for mode in ("continuous", "insightface")
    }
    assert jumps["continuous"] < 2e-3
    border = math.cos(margin) + margin * math.sin(margin) - 1
    assert jumps["insightface"].item() == pytest.approx(border, abs=4e-3)


def test_straight_through_changes_gradients_by_the_ratio_of_sines_only(make, clustered):
    theta = torch.linspace(0.1, 2.4, 9, dtype=torch.float64)
    cosine = theta.cos().requires_grad_()
    exact, through = (Angular(margin=0.5, overflow="none", straight_through=on) for on in (False, True))
    torch.testing.assert_close(margined(exact, cosine), margined(through, cosine), rtol=1e-14, atol=1e-14)
    (slope,) = torch.autograd.grad(margined(exact, cosine).sum(), cosine)
    torch.testing.assert_close(slope, (theta + 0.5).sin() / theta.sin())
    assert torch.equal(torch.autograd.grad(margined(through, cosine).sum(), cosine)[0], torch.ones_like(cosine))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), classes=st.integers(1, 5), per_class=st.integers(1, 6))
def test_the_center_regularizer_lies_between_0_and_1(seed, classes, per_class):
    torch.manual_seed(seed)
    assert -1e-12 <= merge_centers(torch.randn(classes, per_class, 3, dtype=torch.float64)) <= 1 + 1e-5


def test_the_center_regularizer_at_known_places():
    orthogonal = torch.eye(4, dtype=torch.float64).reshape(2, 2, 4)
    assert merge_centers(3 * orthogonal).item() == pytest.approx(math.sqrt(2 + 1e-5) / 2)
    antipodal = torch.tensor([[[1.0, 0], [-1, 0]]], dtype=torch.float64)
    assert merge_centers(antipodal).item() == pytest.approx(math.sqrt(4 + 1e-5) / 2)
    coincident = torch.ones(3, 4, 2, dtype=torch.float64)
    assert merge_centers(coincident).item() == pytest.approx(math.sqrt(1e-5) / 2)


def test_the_center_regularizer_does_not_compare_classes():
    torch.manual_seed(0)
    centers = torch.randn(3, 4, 5, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    turned = torch.cat([centers[:1] @ rotation, centers[1:]])
    torch.testing.assert_close(merge_centers(turned), merge_centers(centers))


def test_soft_pooling_pushes_losing_centers_away_and_logsumexp_never_does():
    similarities = torch.tensor([[[0.9, 0.5, 0.85]]], dtype=torch.float64, requires_grad=True)
    for pooling, pushes in ((Soft(gamma=0.1), True), (LogSumExp(gamma=0.1), False)):
        (slope,) = torch.autograd.grad(pooling(similarities).sum(), similarities)
        assert (slope[0, 0, 1] < 0).item() is pushes
        assert slope[0, 0, 0] > 0


@pytest.mark.parametrize("gamma", [0.01, 0.1, 2.0])
def test_logsumexp_pooling_adds_the_entropy(gamma):
    torch.manual_seed(0)
    similarities = torch.randn(3, 4, 5, dtype=torch.float64)
    entropy = torch.special.entr((similarities / gamma).softmax(dim=2)).sum(dim=2)
    torch.testing.assert_close(LogSumExp(gamma=gamma)(similarities), Soft(gamma=gamma)(similarities) + gamma * entropy)


def test_soft_pooling_runs_from_the_mean_to_the_nearest():
    torch.manual_seed(0)
    similarities = torch.rand(3, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(Soft(gamma=1e6)(similarities), similarities.mean(dim=2), rtol=1e-5, atol=0)
    torch.testing.assert_close(Soft(gamma=1e-4)(similarities), nearest(similarities), rtol=1e-5, atol=0)


def test_lengths_of_fresh_centers():
    torch.manual_seed(0)
    for init, length in ((gaussian, 1.0), (uniform_over_centers, math.sqrt(256 / (3 * 50 * 4)))):
        centers = init(50, 4, 256)
        assert centers.shape == (50, 4, 256)
        assert centers.norm(dim=2).mean().item() == pytest.approx(length, rel=0.01)
    assert centers.abs().max() <= 1 / math.sqrt(50 * 4)


def test_sharp_multi_similarity_is_a_hinge_on_the_hardest_pairs(make, clustered):
    sharp = make("multi_similarity", alpha=1e5, beta=1e5, mining_epsilon=None)
    x = torch.nn.functional.normalize(clustered.x)
    similarity, same = x @ x.T, clustered.y[:, None] == clustered.y
    positive = similarity.masked_fill(~same, torch.inf).amin(dim=1)
    negative = similarity.masked_fill(same, -torch.inf).amax(dim=1)
    hinges = (0.5 - positive).relu() + (negative - 0.5).relu()
    torch.testing.assert_close(sharp(clustered.x, clustered.y), hinges.mean(), rtol=1e-4, atol=1e-4)


def test_orderly_embeddings_cost_nothing(make):
    x = torch.tensor([[1.0, 0], [1, 0], [-1, 0], [-1, 0]], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0, 0, 1, 1])
    for key, options in (
        ("contrastive", {}),
        ("contrastive", {"form": "linear"}),
        ("triplet_semihard", {}),
        ("triplet_batch_hard", {"margin": 0.5}),
        ("multi_similarity", {}),
    ):
        value = make(key, dim=2, **options)(x, y)
        (gradient,) = torch.autograd.grad(value, x)
        assert value == 0
        assert (gradient == 0).all()
