"""The proxy loss composed in a recipe: equal to the published names, and refused where parts make no sense."""

import pytest
import torch

from dml_bench.errors import OptionError
from dml_bench.losses import LOSSES, build
from dml_bench.losses.centers import POOLINGS
from dml_bench.losses.slots import Slot

COUNTS = torch.tensor([9, 1, 4, 30, 2])
ANGLE = {"multiplicative": {"margin": 4, "annealing": 5.0}}
SAME = {
    "softmax_ce": {"similarity": "dot", "bias": True},
    "w_softmax": {"similarity": "class_cosine"},
    "norm_softmax": {"scale": 20.0},
    "c_contrastive": {"similarity": "negative_squared_distance", "objective": "pair_hinge"},
    "c_triplet": {"similarity": "negative_squared_distance", "objective": {"hinge": 0.8}},
    "ohem": {"similarity": "dot", "bias": True, "weighting": ["hardest"]},
    "focal": {"similarity": "dot", "bias": True, "weighting": "focal"},
    "class_balanced": {"similarity": "dot", "bias": True, "weighting": ["class_weights"]},
    "nra": {"margin": "angular", "objective": "bootstrap", "scale": 64.0},
    "sv_am_softmax": {"margin": {"additive": 0.35}, "negatives": "support_vector", "scale": 30.0},
    "l_softmax": {"similarity": "dot", "margin": "multiplicative"},
    "af_softmax": {"similarity": "class_cosine", "margin": {"multiplicative": 4}, "weighting": [{"focal": 2}]},
    "em_softmax": {"similarity": "dot", "margin": {"additive": 0.5}, "members": 2, "ensemble": "hsic"},
    "combined_margin": {"margin": "combined", "scale": 64},
    "uniformface": {"similarity": "class_cosine", "margin": "multiplicative", "regularizer": "uniform"},
    "affinity": {"similarity": "gaussian", "objective": {"hinge": 0.75}, "regularizer": ["equidistant"]},
    "softtriple": {"centers": "soft", "margin": {"additive": 0.01}, "regularizer": ["merge_centers"], "scale": 20},
    "subcenter_arcface": {"centers": "nearest", "centers_per_class": 3, "margin": "angular", "scale": 64},
    "proxy_nca": {"similarity": "negative_squared_distance", "objective": "nca", "scale": 9},
    "adaptiveface": {"margin": "per_class", "regularizer": ["mean_margin"], "scale": 30},
}


@pytest.mark.parametrize("key", SAME)
def test_published_losses_can_be_composed(make, clustered, key):
    named, composed = make(key, class_counts=COUNTS), make("proxy", class_counts=COUNTS, **SAME[key])
    composed.load_state_dict(named.state_dict())
    torch.testing.assert_close(composed(clustered.x, clustered.y), named(clustered.x, clustered.y))


def test_an_ensemble_of_annealed_focal_losses_with_three_centers(make, clustered):
    loss = make(
        "proxy",
        similarity="class_cosine",
        centers="nearest",
        centers_per_class=3,
        margin=ANGLE,
        weighting=["focal"],
        members=2,
        ensemble={"hsic": {"weight": 0.1}},
    )
    x = clustered.x.requires_grad_()
    terms = loss.terms(x, clustered.y)
    assert set(terms) == {"objective", "diversity"}
    sum(terms.values()).backward()
    assert loss.centers.shape == (2, 5, 3, 6)
    assert loss.centers.grad.isfinite().all()
    assert x.grad.abs().sum() > 0
    assert loss.class_scores(clustered.x).shape == (len(clustered.y), 5)


def test_candidates_with_several_centers_remember_step_and_save(make, clustered):
    options = {"centers": "nearest", "centers_per_class": 3, "negatives": {"candidates": 1}, "scale": 20}
    loss, everyone = make("proxy", **options), make("proxy", **{**options, "negatives": "none"})
    x, y = clustered.x[:3].requires_grad_(), clustered.y[:3]
    loss(x, y).backward()
    (rival,) = loss.negatives.queues[0].tolist()
    means = torch.nn.functional.normalize(loss.centers.detach(), dim=-1).mean(1)
    cosines = torch.nn.functional.cosine_similarity(means[:1], means).tolist()
    assert rival == max(range(1, 5), key=lambda c: cosines[c])
    logits = everyone.class_scores(x)[:, [0, rival]]
    expected = torch.nn.functional.cross_entropy(logits, torch.zeros(3, dtype=torch.long))
    torch.testing.assert_close(loss(x, y), expected)
    assert (loss.centers.grad.abs().sum((1, 2)) > 0).nonzero()[:, 0].tolist() == sorted([0, rival])

    loss.centers.data.copy_(loss.centers.data.roll(1, 0))
    loss(x, y)
    loss.on_step()
    other = make("proxy", seed=3, **options)
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other.negatives.queues, loss.negatives.queues)
    assert torch.equal(other(x, y), loss(x, y))


def test_weightings_compose_left_to_right(make, clustered):
    loss = make("proxy", class_counts=COUNTS, weighting=["focal", "class_weights", {"hardest": 0.5}], scale=5)
    logits = loss.class_scores(clustered.x)
    rows = torch.nn.functional.cross_entropy(logits, clustered.y, reduction="none")
    weights = 1 / (1 - 0.999 ** COUNTS.double())
    weights = (5 * weights / weights.sum())[clustered.y] * (1 - (-rows).exp()) ** 2
    highest = (weights * rows).topk(len(rows) // 2).values  # each part weighs what the one before left
    torch.testing.assert_close(loss(clustered.x, clustered.y), highest.mean())


def test_the_example_of_a_recipe_is_spelt_out():
    checked = LOSSES["proxy"].check(
        {
            "similarity": "cosine",
            "centers": {"soft": {"gamma": 0.1}},
            "margin": {"additive": 0.35},
            "negatives": {"support_vector": {"t": 1.2}},
            "weighting": [{"focal": {"gamma": 2}}],
            "regularizer": [{"merge_centers": {"weight": 0.2}}],
            "scale": 20,
        }
    )
    assert checked["margin"] == {"additive": {"margin": 0.35}}
    assert checked["weighting"] == [{"focal": {"gamma": 2.0, "alpha": None}}]
    assert LOSSES["proxy"].check(checked) == checked
    assert build("proxy", 4, 3, **checked).centers.shape == (4, 10, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"similarity": "cosin"}, "similarity: no similarity named 'cosin' .did you mean 'cosine'"),
        ({"centers": {"soft": {"gama": 1.0}}}, "centers.soft.gama: 'soft' has no option 'gama' .did you mean 'gamma'"),
        ({"margin": {"additive": -1}}, "margin.additive.margin: must be greater than or equal to 0"),
        ({"margin": {"none": 3}}, "'none' has no option"),
        ({"margin": {"additive": 1, "angular": 1}}, "must be a name or {name: options}"),
        ({"weighting": ["focal", "hardst"]}, r"weighting\[1\]: no weighting named 'hardst' .did you mean 'hardest'"),
        (
            {"margin": {"multiplicative": {"annealing": {"gama": 1}}}},
            "annealing.gama: no such option .did you mean 'gam",
        ),
        ({"margin": "angular", "similarity": "gaussian"}, "margin: acts on an angle, which a distance does not have"),
        ({"margin": "multiplicative", "similarity": "negative_squared_distance"}, "margin: acts on an angle"),
        ({"margin": "combined", "similarity": "dot", "centers": "soft"}, "several centers of any length"),
        ({"bias": True}, "bias: undoes"),
        ({"bias": True, "similarity": "class_cosine"}, "bias: undoes"),
        ({"bias": True, "similarity": "gaussian"}, "bias: undoes"),
        ({"negatives": "support_vector", "similarity": "dot"}, "negatives: support_vector weighs by 1 . cos"),
        ({"centers_per_class": 3}, "centers: single takes one center per class, not 3"),
        ({"ensemble": "hsic"}, "ensemble: compares members"),
        ({"negatives": "candidates", "similarity": "gaussian"}, "negatives: candidates are .* which gaussian does not"),
        ({"negatives": "candidates", "members": 2}, "negatives: candidates remembers the rivals of one head, not of 2"),
        ({"negatives": "candidates", "sampled_classes": 5}, "negatives: candidates chooses the classes of a step"),
        ({"negatives": {"candidates": 0}}, "negatives.candidates.count: must be greater than or equal to 1"),
        ({"regularizer": ["mean_margin"]}, "regularizer: mean_margin rewards learned margins"),
    ],
    ids=str,
)
def test_nonsense_is_refused_before_anything_is_built(options, message):
    with pytest.raises(OptionError, match=message):
        LOSSES["proxy"].check(options)


def test_all_nonsense_is_reported_at_once():
    with pytest.raises(OptionError, match="margin: [^\n]*\nbias: [^\n]*\nensemble: "):
        LOSSES["proxy"].check({"similarity": "gaussian", "margin": "angular", "bias": True, "ensemble": "hsic"})


@pytest.mark.parametrize("key", ["class_balanced", "unequal_training"])
def test_counts_are_needed_where_they_matter(key):
    with pytest.raises(OptionError, match="class_counts: .* needs the images per class"):
        build(key, 5, 6)
    with pytest.raises(OptionError, match="class 1 has none"):
        build(key, 2, 6, class_counts=torch.tensor([3, 0]))


def test_factors_of_focal_must_fit_the_classes():
    with pytest.raises(OptionError, match="alpha: needs one factor per class, 5, not 2"):
        build("focal", 5, 6, alpha=[1.0, 2.0])


def test_every_part_is_explained():
    for slot in (o for o in vars(__import__("dml_bench.losses.named.freeform", fromlist=["x"])).values()):
        if isinstance(slot, Slot):
            assert all(entry.summary.endswith(".") for entry in slot), [e.summary for e in slot]
    shown = {option.name: option.allowed for option in LOSSES["proxy"].options}
    assert all(entry.name in shown["centers"] for entry in POOLINGS)
    assert "soft {gamma: 0.1}" in shown["centers"]
