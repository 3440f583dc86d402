"""Pair, triplet and ranking losses against plain loops, with every option, and on batches that lack something."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dml_bench.losses import LOSSES, build, ranking
from dml_bench.losses.batch_softmax import first_two
from dml_bench.losses.miners import by_distance, pairs_of, sampling_weights
from dml_bench.losses.numerics import pairwise_distances, unit
from dml_bench.testing.oracle import tuples

VARIANTS = {
    "triplet_all": [
        {"margin": margin, "squared": squared, "reduction": reduction}
        for margin in (0.2, 1.0)
        for squared in (True, False)
        for reduction in ("nonzero", "mean")
    ],
    "margin_loss": [
        {"sampling": "all"},
        {"sampling": "all", "margin": 0.0, "beta": 0.7},
        {"sampling": "all", "learn_beta": "global", "beta_regularizer": 0.3},
        {"sampling": "all", "learn_beta": "class", "beta_regularizer": 0.3},
    ],
    "circle": [{}, {"margin": 0.25, "scale": 256.0}, {"scope": "batch"}, {"scope": "batch", "margin": -0.1}],
    "supcon": [{}, {"temperature": 0.5}],
    "npair": [{}, {"regularizer_weight": 0.02}],
    "smooth_ap": [{}, {"include_query": True}, {"temperature": 0.3}],
    "recall_at_k": [{}, {"include_query": True}, {"k": [1, 3], "rank_temperature": 0.2, "hit_temperature": 0.5}],
}
CASES = [(key, options) for key, variants in VARIANTS.items() for options in variants]


@pytest.fixture(scope="module")
def plain():
    return tuples


def expected(plain, key, loss, x, y, options):
    """Hand the plain loops the border of each class where it is learned, different for each."""
    held = {"beta": loss.beta.tolist()} if options.get("learn_beta") else {}
    return getattr(plain, key)(x.tolist(), y.tolist(), **options | held)


def learned(loss, options):
    if options.get("learn_beta") == "class":
        loss.beta.data += torch.linspace(-0.3, 0.3, len(loss.beta), dtype=loss.beta.dtype)
    return loss


@pytest.mark.parametrize(("key", "options"), CASES, ids=str)
def test_equals_plain_loops(plain, make, batch, key, options):
    loss = learned(make(key, **options), options)
    value = loss(batch.x, batch.y).item()
    assert value == pytest.approx(expected(plain, key, loss, batch.x, batch.y, options), rel=1e-11, abs=1e-11)


@settings(max_examples=80, deadline=None)
@given(
    case=st.sampled_from(CASES),
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=9),
    seed=st.integers(0, 2**31),
    size=st.sampled_from([1e-3, 1.0, 5.0]),
)
def test_any_batch_equals_plain_loops(plain, case, labels, seed, size):
    key, options = case
    torch.manual_seed(seed)
    loss = learned(build(key, 4, 3, **options).double(), options)
    x, y = size * torch.randn(len(labels), 3, dtype=torch.float64), torch.tensor(labels)
    assert loss(x, y).item() == pytest.approx(expected(plain, key, loss, x, y, options), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("key", "options"), [c for c in CASES if c[0] != "circle"], ids=str)
def test_gradients_are_those_of_the_value(make, clustered, key, options):
    loss = learned(make(key, **options), options)
    assert torch.autograd.gradcheck(lambda x: loss(x, clustered.y), clustered.x.requires_grad_(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scope", ["anchor", "batch"])
def test_the_gradient_of_circle_holds_its_weights_constant(plain, make, clustered, scope):
    loss, x = make("circle", scope=scope), clustered.x.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x, clustered.y), x)
    step = 1e-6 * torch.randn_like(x)

    def frozen(moved):
        return plain.circle(moved.tolist(), clustered.y.tolist(), scope=scope, weights_at=x.tolist())

    slope = frozen(x.detach() + step) - frozen(x.detach() - step)
    assert 2 * (gradient * step).sum().item() == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("key", VARIANTS)
@pytest.mark.parametrize(("labels", "lacks"), [([0, 1, 2, 3], "positives"), ([2, 2, 2], "negatives"), ([1], "pairs")])
def test_what_has_no_term_is_0_and_backward_works(make, key, labels, lacks):
    x = torch.randn(len(labels), 6, dtype=torch.float64, requires_grad=True)
    value = make(key)(x, torch.tensor(labels))
    (gradient,) = torch.autograd.grad(value, x)
    assert gradient.isfinite().all()
    if lacks != "negatives" or key not in ("supcon", "recall_at_k"):  # these compare positives with each other
        assert value == 0
        assert gradient.abs().max() < 1e-12


def test_supcon_spreads_a_batch_of_one_class(make):
    value = make("supcon")(torch.randn(4, 6, dtype=torch.float64), torch.zeros(4, dtype=torch.int64))
    assert value >= math.log(3)


def test_supcon_with_one_positive_each_is_nt_xent(make):
    torch.manual_seed(0)
    views = torch.nn.functional.normalize(torch.randn(8, 6, dtype=torch.float64))
    labels = torch.arange(4).repeat(2)
    logits = (views @ views.T / 0.1).fill_diagonal_(-torch.inf)
    nt_xent = torch.nn.functional.cross_entropy(logits, torch.arange(8).roll(4))
    torch.testing.assert_close(make("supcon")(views, labels), nt_xent)


def test_npair_takes_the_first_two_of_each_class_in_the_batch(make):
    labels = torch.tensor([2, 0, 2, 1, 0, 2, 0])
    assert [rows.tolist() for rows in first_two(labels)] == [[1, 0], [4, 2]]
    x = torch.randn(7, 6, dtype=torch.float64, requires_grad=True)
    make("npair")(x, labels).backward()
    assert (x.grad[[3, 5, 6]] == 0).all()
    assert (x.grad[[0, 1, 2, 4]] != 0).any(dim=1).all()


def test_smooth_ap_of_a_sharp_step_is_the_metric(make):
    from sklearn.metrics import average_precision_score

    torch.manual_seed(2)
    x, y = torch.randn(20, 6, dtype=torch.float64), torch.arange(20) % 5
    s = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(x).T
    others = [[j for j in range(20) if j != i] for i in range(20)]
    metric = [average_precision_score(y[others[i]] == y[i], s[i, others[i]]) for i in range(20)]
    assert 1 - make("smooth_ap", temperature=1e-7)(x, y).item() == pytest.approx(sum(metric) / 20, abs=1e-9)


def test_recall_at_k_of_a_sharp_step_is_the_share_of_hits(make):
    x, y = torch.randn(20, 6, dtype=torch.float64), torch.arange(20) % 5
    s = (torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(x).T).fill_diagonal_(-2)
    hits = (y[s.topk(3).indices] == y[:, None]).sum(dim=1).double() / 3
    options = {"k": [3], "rank_temperature": 1e-8, "hit_temperature": 1e-3}
    loss = make("recall_at_k", **options)
    # A positive of rank 3 is half a hit: the step from rank to hit is centred at k.
    edge = (y[s.topk(3).indices[:, 2]] == y).double() / 6
    assert 1 - loss(x, y).item() == pytest.approx((hits - edge).mean().item(), abs=1e-9)


@pytest.mark.parametrize("key", ["smooth_ap", "recall_at_k"])
def test_ranks_in_blocks_are_the_same(make, clustered, key, monkeypatch):
    x, loss = clustered.x.requires_grad_(), make(key)
    whole = loss(x, clustered.y)
    (wanted,) = torch.autograd.grad(whole, x)
    monkeypatch.setattr(ranking, "BLOCK", 3 * len(x) + 1)
    value = loss(x, clustered.y)
    torch.testing.assert_close(value, whole)
    torch.testing.assert_close(torch.autograd.grad(value, x)[0], wanted)


def test_negatives_are_drawn_as_often_as_their_distance_says(plain):
    torch.manual_seed(0)
    x, y = torch.nn.functional.normalize(torch.randn(12, 4, dtype=torch.float64)), torch.arange(12) % 3
    wanted = torch.tensor(plain.draw_probabilities(x.tolist(), y.tolist(), 4), dtype=torch.float64)
    distances, generator = pairwise_distances(x), torch.Generator().manual_seed(1)
    torch.testing.assert_close(sampling_weights(distances, pairs_of(y)[1], 4), wanted)
    counts, rounds = torch.zeros(12, 12, dtype=torch.float64), 4000
    for _ in range(rounds):
        anchors, positives, negatives = by_distance(distances, *pairs_of(y), dim=4, generator=generator)
        assert (y[anchors] == y[positives]).all()
        counts.index_put_((anchors, negatives), torch.ones(1, dtype=torch.float64), accumulate=True)
    draws = counts.sum(dim=1, keepdim=True)
    assert ((draws == 3 * rounds) | (wanted.sum(dim=1, keepdim=True) == 0)).all()
    deviation = (wanted * (1 - wanted) / (3 * rounds)).sqrt()
    assert ((counts / draws.clamp(min=1) - wanted).abs() <= 5 * deviation).all()


@pytest.mark.parametrize("dim", [2, 3, 64, 512])
def test_some_negative_is_eligible_in_any_dimension(dim):
    torch.manual_seed(0)
    near = 2 + torch.randn(10, dim, dtype=torch.float64)  # unrelated directions are 1.41 apart in many dimensions
    x, y = unit(near), torch.arange(10) % 5
    weights = sampling_weights(pairwise_distances(x), pairs_of(y)[1], dim)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(10, dtype=torch.float64))
    assert (weights[pairs_of(y)[0]] == 0).all()


def test_anchors_without_a_near_negative_are_skipped(make):
    x = torch.tensor([[1.0, 0], [1, 0.1], [-1, 0], [-1, 0.1]], dtype=torch.float64)
    loss = make("margin_loss", num_classes=2, dim=2)
    assert loss(x, torch.tensor([0, 0, 1, 1])) == 0


def test_each_step_draws_anew_and_the_state_repeats_it(make, clustered):
    loss = make("margin_loss")
    first = loss(clustered.x, clustered.y)
    assert loss(clustered.x, clustered.y) == first
    state = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
    values = set()
    for _ in range(8):
        loss.on_step()
        values.add(loss(clustered.x, clustered.y).item())
    assert len(values) > 3
    loss.load_state_dict(state)
    assert loss(clustered.x, clustered.y) == first


def test_the_border_is_a_parameter_of_its_own_group(make, clustered):
    assert list(make("margin_loss").parameters()) == []
    for learn, shape in (("global", ()), ("class", (5,))):
        loss = make("margin_loss", learn_beta=learn, sampling="all")
        assert loss.beta.shape == shape
        assert [group["name"] for group in loss.param_groups(0.1)] == ["beta"]
        loss(clustered.x, clustered.y).backward()
        assert loss.beta.grad.abs().sum() > 0


def test_every_option_is_tried():
    for key, variants in VARIANTS.items():
        assert {option.name for option in LOSSES[key].options} == {name for options in variants for name in options}


@pytest.mark.parametrize(("size", "dim"), [(3, 2), (33, 64), (100, 513), (257, 2048)])
def test_equal_rows_are_0_apart_in_single_precision(size, dim):
    torch.manual_seed(size)
    x = torch.randn(size, dim)
    distances = pairwise_distances(torch.cat([x, x]))
    assert (distances[:size, size:].diagonal() == 0).all()
    assert (distances.diagonal() == 0).all()
    assert ((distances > 0).sum(dim=1) == 2 * size - 2).all()
