"""What every registered loss promises, whatever it computes."""

import copy
import subprocess
import sys

import pytest
import torch

from dml_bench.errors import DataError, OptionError
from dml_bench.losses import LOSSES, Loss, Task, build
from dml_bench.testing import check_loss
from dml_bench.testing.variants import variants

C, D = 5, 6


def test_every_loss_obeys_the_rules(key):
    for options in variants(key):
        if not numbers_classes(options):
            check_loss(key, **options)


def numbers_classes(options):
    """Rivals and a list of factors go by the numbers of classes, so that other numbers make another loss."""
    return "candidates" in options or isinstance(options.get("alpha"), list)


def test_gradients_reach_embeddings_and_every_center(make, key, clustered):
    loss, x = make(key), clustered.x.requires_grad_()
    loss(x, clustered.y).backward()
    if key != "uniform_loss":  # which is about centers alone
        assert (x.grad.abs().sum(dim=1) > 0).sum() >= 2
    for name, parameter in loss.named_parameters():
        assert name in ("centers", "bias", "scale", "margins")
        reached = parameter.grad.reshape(len(parameter), -1).abs().sum(dim=1) > 0
        assert reached.all(), f"{name} of classes {(~reached).nonzero().tolist()}"


def test_indices_are_accepted(make, key, batch):
    loss = make(key)
    assert torch.equal(loss(batch.x, batch.y, torch.arange(len(batch.y)) + 100), loss(batch.x, batch.y))


@pytest.mark.parametrize("narrow", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_narrow_embeddings_are_computed_in_float32(make, key, clustered, narrow):
    loss = make(key).float()
    x = clustered.x.to(narrow).requires_grad_()
    value = loss(x, clustered.y)
    value.backward()
    assert value.dtype == torch.float32
    assert x.grad.dtype == narrow
    exact = make(key)(x.detach().double(), clustered.y)
    torch.testing.assert_close(value.double(), exact, rtol=1e-4, atol=1e-5)


def test_autocast_changes_nothing(make, key, clustered):
    loss, x = make(key).float(), clustered.x.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(x, clustered.y)
    assert torch.equal(inside, loss(x, clustered.y))


def test_narrow_centers_are_computed_in_the_precision_of_the_embeddings(make, key, clustered):
    loss = make(key).to(torch.bfloat16)
    value = loss(clustered.x, clustered.y)
    assert value.dtype == torch.float64
    torch.testing.assert_close(value, copy.deepcopy(loss).double()(clustered.x, clustered.y))


def test_param_groups_hold_every_parameter_once(make, key):
    loss = make(key)
    groups = loss.param_groups(0.5)
    assert [p for g in groups for p in g["params"]] == list(loss.parameters())
    for group in groups:
        assert set(group) == {"name", "params", "lr", "weight_decay"}
        assert (group["lr"], group["weight_decay"]) == (0.5, 0.0)
    if groups:
        torch.optim.SGD([{k: v for k, v in g.items() if k != "name"} for g in groups])


def test_the_learned_scale_is_a_parameter(make, clustered):
    loss = make("norm_softmax", learn_scale=True)
    assert [g["name"] for g in loss.param_groups(0.1)] == ["centers", "scale"]
    loss(clustered.x, clustered.y).backward()
    assert loss.scale.grad != 0


def test_class_scores_are_the_logits_without_margin(make, key, clustered):
    loss = make(key)
    if not hasattr(loss, "class_scores"):
        assert not list(loss.parameters())
        return
    scores = loss.class_scores(clustered.x)
    assert scores.shape == (len(clustered.y), C)
    loss.centers.data = torch.nn.functional.normalize(loss.centers.data, dim=-1)
    first = loss.centers.detach()[:, 0]
    if loss.centers.ndim == 3 and loss.centers.shape[1] == 1 and getattr(loss, "bias", None) is None:
        assert torch.equal(loss.class_scores(first).argmax(dim=1), torch.arange(C))
    with pytest.raises(DataError, match="shape"):
        loss.class_scores(clustered.x[:, 1:])


def test_a_training_step_lowers_the_loss(make, key, clustered):
    loss, x = make(key), clustered.x.clone().requires_grad_()
    before = loss(x, clustered.y)
    before.backward()
    if (x.grad == 0).all():
        return
    with torch.no_grad():
        x -= 1e-4 * x.grad
    assert loss(x, clustered.y) < before


def test_the_global_generator_draws_the_centers(key):
    torch.manual_seed(3)
    first = build(key, C, D, class_counts=torch.ones(C)).state_dict()
    torch.manual_seed(3)
    again = build(key, C, D, class_counts=torch.ones(C)).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_centers_have_classes_centers_dimensions():
    assert build("norm_softmax", C, D).centers.shape == (C, 1, D)
    assert build("softtriple", C, D, centers_per_class=3).centers.shape == (C, 3, D)


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (torch.randn(4, 7), r"shape \(N, 6\).*not \(4, 7\)"),
        (torch.randn(6), r"shape \(N, 6\).*not \(6,\)"),
        (torch.randn(4, 6, 1), r"not \(4, 6, 1\)"),
        (torch.randn(0, 6), r"N >= 1"),
        (torch.ones(4, 6, dtype=torch.int64), r"floating point, not torch.int64"),
        (torch.ones(4, 6, dtype=torch.complex64), r"floating point, not torch.complex64"),
        (torch.full((4, 6), torch.nan), r"finite: 4 of 4 rows"),
        (torch.eye(4, 6) / torch.tensor([1, 1, 0, 1])[:, None], r"finite: 1 of 4 rows are not, the first is 2"),
    ],
)
def test_wrong_embeddings_are_refused(make, key, embeddings, message):
    with pytest.raises(DataError, match=message):
        make(key)(embeddings, torch.zeros(len(embeddings), dtype=torch.int64))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1, 2, 5]), r"lie in \[0, 5\), not 5"),
        (torch.tensor([0, 1, 2, -1]), r"lie in \[0, 5\), not -1"),
        (torch.tensor([0, 1, 2]), r"shape \(4,\), one per embedding, not \(3,\)"),
        (torch.tensor([[0], [1], [2], [3]]), r"shape \(4,\)"),
        (torch.tensor([0.0, 1.0, 2.0, 3.0]), r"integers, not torch.float32"),
        (torch.tensor([True, False, True, False]), r"integers, not torch.bool"),
    ],
)
def test_wrong_labels_are_refused(make, key, labels, message):
    with pytest.raises(DataError, match=message):
        make(key)(torch.randn(4, D), labels)


def test_wrong_indices_are_refused(make, key):
    x, y = torch.randn(4, D), torch.tensor([0, 0, 1, 1])
    with pytest.raises(DataError, match=r"indices must have shape \(4,\)"):
        make(key)(x, y, torch.arange(3))
    with pytest.raises(DataError, match="indices must be >= 0, not -1"):
        make(key)(x, y, torch.tensor([0, -1, 2, 3]))


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int16], ids=str)
def test_any_integer_type_labels(make, key, clustered, dtype):
    loss = make(key)
    assert torch.equal(loss(clustered.x, clustered.y.to(dtype)), loss(clustered.x, clustered.y))


@pytest.mark.parametrize("sizes", [(0, 4), (-1, 4), (4, 0), (True, 4)], ids=str)
def test_impossible_sizes_are_refused(key, sizes):
    with pytest.raises(OptionError, match="must be an integer >= 1"):
        build(key, *sizes)


def test_both_sizes_are_reported_at_once():
    with pytest.raises(OptionError, match=r"num_classes: .* not 0\nembedding_dim: .* not -3"):
        build("arcface", 0, -3)


def test_class_counts_of_another_length_are_refused():
    assert Task(4, 2, torch.ones(4)).num_classes == 4
    with pytest.raises(OptionError, match=r"class_counts: must have shape \(4,\), not \(3,\)"):
        build("arcface", 4, 2, class_counts=torch.ones(3))


def test_unknown_names_and_options_come_with_a_suggestion():
    with pytest.raises(OptionError, match="no losses named 'softtripel'.*did you mean 'softtriple'"):
        build("softtripel", C, D)
    with pytest.raises(OptionError, match="'softtriple' has no option 'margn'.*did you mean 'margin'"):
        build("softtriple", C, D, margn=0.1)


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("norm_softmax", {"scale": 0.0}),
        ("norm_softmax", {"scale": float("inf")}),
        ("am_softmax", {"margin": -0.1}),
        ("arcface", {"margin": 28.6}),
        ("arcface", {"overflow": "clip"}),
        ("proxy_nca_pp", {"temperature": 0}),
        ("softtriple", {"centers_per_class": 0}),
        ("softtriple", {"centers_per_class": 2.5}),
        ("softtriple", {"gamma": 0.0}),
        ("contrastive", {"margin": 0.0}),
        ("triplet_semihard", {"pick": "hard"}),
        ("multi_similarity", {"beta": -1.0}),
        ("multi_similarity", {"mining_epsilon": float("nan")}),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(key, options):
    with pytest.raises(OptionError, match=next(iter(options))):
        build(key, C, D, **options)


def test_one_class_leaves_proxy_nca_nothing_to_compare_with():
    with pytest.raises(OptionError, match="num_classes: must be >= 2 for proxy_nca"):
        build("proxy_nca", 1, D)


def test_every_factory_is_documented():
    for entry in LOSSES:
        assert entry.facts == ("task",)
        assert "Source:" in entry.doc
        assert "Differs:" in entry.doc
        assert entry.summary.endswith(".")
        assert entry.options or entry.name == "w_softmax"
        assert all(option.name and option.allowed for option in entry.options)


def test_a_new_loss_writes_only_compute():
    class Length(Loss):
        def compute(self, embeddings, labels, indices):
            return {"length": embeddings.norm(dim=1).mean()}

    loss = Length(Task(2, 3))
    assert loss(torch.ones(2, 3), torch.tensor([0, 1])).item() == pytest.approx(3**0.5)
    assert loss.param_groups(0.1) == []


def test_importing_losses_leaves_the_metric_learning_library_alone():
    code = "import sys, dml_bench.losses as l; list(l.LOSSES); sys.exit('pytorch_metric_learning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "bound", "deviation"),
    [
        ("norm_softmax", 512**-0.5, (512 * 3) ** -0.5),  # uniform_(-1/sqrt(D), 1/sqrt(D))
        ("proxy_nca", None, 1 / 8),  # randn / 8
        ("proxy_nca_pp", None, 1 / 8),
        ("softtriple", 400**-0.5, (400 * 3) ** -0.5),  # kaiming_uniform_(a=sqrt(5)) over C K
    ],
)
def test_official_centers_are_drawn_as_the_authors_draw_them(name, bound, deviation):
    options = {"centers_per_class": 4} if name == "softtriple" else {}
    torch.manual_seed(0)
    centers = build(name, 100, 512, init="official", **options).centers.detach()
    assert centers.std().item() == pytest.approx(deviation, rel=0.01) and abs(centers.mean().item()) < 0.01 * deviation
    assert bound is None or 0.999 * bound < centers.abs().max().item() <= bound
