"""The options each loss is verified with; the first are those of the checks that need only one."""

from __future__ import annotations

from typing import Any

Options = dict[str, Any]

OVERFLOWS = ("insightface", "continuous", "easy", "none")
QUICK: Options = {"annealing": {"base": 20.0, "gamma": 0.5, "power": 2.0, "minimum": 1.0}}
"""Gone through in a few steps."""

FREE_FORM: list[Options] = [
    {},
    {"scale": 5.0, "learn_scale": True, "negatives": {"support_vector": 1.3}, "margin": {"additive": 0.2}},
    {"similarity": "dot", "bias": True, "members": 2, "ensemble": {"hsic": 0.3}, "weighting": "focal"},
    {
        "similarity": "gaussian",
        "centers": "nearest",
        "centers_per_class": 2,
        "objective": {"hinge": 0.4},
        "regularizer": [{"equidistant": 0.5}, {"uniform": 2.0}],
    },
    {"similarity": "feature_cosine", "bias": True, "scale": 4.0, "objective": {"bootstrap": 0.6}},
    {"similarity": "negative_squared_distance", "objective": "nca", "scale": 3.0, "weighting": {"hardest": 0.4}},
    {"centers": {"logsumexp": 0.2}, "centers_per_class": 3, "margin": {"angular": 0.3}, "scale": 8.0},
    {"similarity": "class_cosine", "weighting": [{"hardest": 0.5}, {"class_weights": 0.9}]},
    {"similarity": "dot", "weighting": [{"class_weights": 0.99}, {"hardest": 0.5}]},
    {"margin": "per_class", "regularizer": {"mean_margin": 3.0}, "scale": 8.0},
]
"""Combinations that no published loss makes."""

VARIANTS: dict[str, list[Options]] = {
    "norm_softmax": [{}, {"scale": 64.0}, {"learn_scale": True}, {"init": "official"}],
    "am_softmax": [{}, {"margin": 0.0, "scale": 1.0}, {"margin": 1.5}],
    "arcface": [
        {"margin": margin, "overflow": overflow, "straight_through": through}
        for margin, through in ((0.5, False), (0.5, True), (1.5, False), (0.0, False), (3.0, False))
        for overflow in OVERFLOWS
    ]
    + [{"margin": 0.9, "scale": 10.0}],
    "proxy_nca": [{}, {"scale": 1.0}, {"scale": 100.0}, {"init": "official"}],
    "proxy_nca_pp": [{}, {"temperature": 0.02}, {"init": "official"}],
    "softtriple": [
        {"centers_per_class": 1},
        {"centers_per_class": 2, "regularizer_weight": 0.0},
        {"centers_per_class": 4, "gamma": 0.01, "margin": 0.3, "scale": 5.0},
        {"centers_per_class": 3, "pooling": "logsumexp", "init": "official"},
        {},
    ],
    "hardtriple": [
        {"centers_per_class": 1},
        {"centers_per_class": 3, "regularizer_weight": 0.7, "margin": 0.4, "scale": 6.0},
        {},
    ],
    "contrastive": [{}, {"margin": 1.9}, {"form": "linear"}, {"form": "linear", "margin": 0.3}],
    "triplet_batch_hard": [{}, {"margin": 0.3}, {"margin": 0.0, "squared": True}, {"normalize": True}],
    "triplet_semihard": [
        {"pick": pick, "margin": margin, "squared": squared}
        for pick in ("strict", "tf", "all")
        for margin, squared in ((0.2, True), (1.0, True), (0.5, False))
    ],
    "multi_similarity": [
        {},
        {"mining_epsilon": None},
        {"mining_epsilon": 0.0},
        {"alpha": 9.0, "beta": 3.0, "base": 1.0},
    ],
    "softmax_ce": [{}, {"bias": False}],
    "l2_softmax": [{}, {"scale": 5.0, "learn_scale": True}, {"bias": False}],
    "coco": [{}, {"epsilon": 0.1}, {"centroids": "batch"}],
    "c_contrastive": [{}, {"margin": 0.3}],
    "c_triplet": [{}, {"hardest_only": True}, {"margin": 0.1}],
    "ohem": [{}, {"keep_ratio": 0.3}, {"keep_ratio": 0.2, "threshold": 0.2}, {"bias": False}],
    "focal": [
        {},
        {"gamma": 0.5, "bias": False},
        {"gamma": 0.0},
        {"alpha": 0.25},
        {"alpha": [0.1, 0.5, 1.0, 2.0, 0.0]},
    ],
    "class_balanced": [{}, {"beta": 0.9}, {"base": "sigmoid", "bias": False}, {"base": "focal"}],
    "nra": [{}, *({"beta": 0.5, "margin": 0.9, "scale": 10.0, "overflow": mode} for mode in OVERFLOWS)],
    "nra_two_stage": [
        {},
        *(
            {"from_epoch": epoch, "beta": 0.5, "margin": 0.9, "scale": 10.0, "overflow": mode}
            for epoch in (1, 2)
            for mode in OVERFLOWS
        ),
        {"from_epoch": 2, "drop_below": 0.5, "scale": 5.0},
    ],
    "center_dispersed": [{}, {"weight": 5.0}],
    "unequal_training": [
        {},
        *({"beta": 0.4, "margin": 0.9, "scale": 10.0, "overflow": mode, "weight": 3.0} for mode in OVERFLOWS),
    ],
    "sv_softmax": [{}, {"t": 1.0}, {"t": 2.0, "scale": 5.0}],
    "sv_am_softmax": [{}, {"t": 1.5, "margin": 0.1, "scale": 5.0}],
    "sv_arc_softmax": [{}, {"t": 1.5, "margin": 0.1, "scale": 5.0}],
    "l_softmax": [{}, *({"margin": m, "annealing": a} for m in (1, 1.5, 2, 2.5, 3, 4) for a in (0.0, 5.0)), QUICK],
    "a_softmax": [
        {},
        *({"margin": m, "annealing": 0.0} for m in (1, 1.5, 2, 2.5, 3, 4)),
        {"annealing": 5.0, "scale": 30.0},
        QUICK,
    ],
    "af_softmax": [{}, {"annealing": 0.0, "gamma": 1.0}, {"margin": 2.5, "annealing": 1.0, "scale": 8.0}, QUICK],
    "sm_softmax": [{}, {"margin": 2.0, "bias": True}],
    "combined_margin": [
        {},
        {"m1": 0.9, "m2": 0.4, "m3": 0.15, "overflow": "monotone"},
        {"m1": 1.7, "m2": 0.2, "m3": 0.1, "scale": 10.0},
        {"m1": 2.5, "m2": 0.4, "m3": 0.0, "overflow": "monotone"},
    ],
    "adaptiveface": [
        {},
        {"margin_weight": 5.0, "scale": 64.0},
        {"angular": True},
        {"candidates": 1},
        {"candidates": 2, "angular": True},
    ],
    "em_softmax": [{}, {"members": 1}, {"members": 3, "margin": 0.1, "diversity_weight": 2.0}],
    "uncertainty_softmax": [
        {},
        {"margin_max": 1.5, "penalty_weight": 2.0, "passes": 4, "competitor": "sum"},
        {"passes": 3, "competitor": "count"},
    ],
    "uniformface": [{}, {"annealing": 0.0, "normalize": False}, {"margin": 2.5, "uniform_weight": 4.0}, QUICK],
    "uniform_loss": [{}, {"weight": 3.0, "normalize": False}],
    "affinity": [{}, {"centers_per_class": 3, "margin": 0.3, "sigma": 2.0, "regularizer_weight": 0.1}],
    "subcenter_arcface": [
        {},
        *({"centers_per_class": 2, "margin": 0.9, "scale": 10.0, "overflow": mode} for mode in OVERFLOWS),
    ],
    "proxy_anchor": [{}, {"margin": 0.3, "scale": 5.0}],
    "triplet_all": [{}, {"squared": False, "reduction": "mean"}, {"margin": 0.8}],
    "margin_loss": [
        {"sampling": "all"},
        {"sampling": "all", "margin": 0.5, "beta": 0.8},
        {"sampling": "all", "learn_beta": "global", "beta_regularizer": 0.3},
        {"sampling": "all", "learn_beta": "class", "beta_regularizer": 0.3, "beta": 0.9},
    ],
    "quintuplet": [{}, {"margins": [0.05, 0.3, 0.7]}],
    "htl": [{}, {"squared": True}, {"margin": 0.7}],
    "circle": [{}, {"margin": 0.25, "scale": 256.0, "scope": "batch"}],
    "supcon": [{}, {"temperature": 0.5}],
    "npair": [{}, {"regularizer_weight": 0.1}],
    "smooth_ap": [{}, {"include_query": True}, {"temperature": 0.1}],
    "recall_at_k": [{}, {"include_query": True}, {"k": [1, 2], "rank_temperature": 0.1, "hit_temperature": 0.3}],
    "proxy": FREE_FORM,
}

ANGULAR = (
    "arcface",
    "subcenter_arcface",
    "combined_margin",
    "nra",
    "nra_two_stage",
    "unequal_training",
    "sv_arc_softmax",
    "adaptiveface",
)
POLES = 1e-5
"""Allowed error at 0 and 180 degrees for a margin on the angle, where rounding of the cosine becomes its root."""


LENGTH_MATTERS = (
    *("softmax_ce", "w_softmax", "ohem", "focal", "class_balanced", "l_softmax", "a_softmax", "af_softmax"),
    *("sm_softmax", "em_softmax", "uniformface", "affinity", "uncertainty_softmax", "npair", "triplet_batch_hard"),
)
"""The losses that leave embeddings as long as they are."""


def variants(key: str) -> list[Options]:
    """Return the sets of options to verify; the defaults alone where nothing else is said."""
    return VARIANTS.get(key, [{}])


def pole_bound(key: str) -> float:
    """Return the error allowed at 0 and 180 degrees."""
    return POLES if key in ANGULAR else 1e-9


def normalises(key: str) -> bool:
    """Tell whether the loss brings embeddings to unit length."""
    return key in VARIANTS and key not in LENGTH_MATTERS


CONSTANT_WEIGHTS = ("circle",)
"""The losses with weights that backward takes as constants, though they depend on the embeddings."""


def gradient_is_that_of_the_value(options: Options) -> bool:
    """Tell whether backward takes the derivative of the value, as all do that are not asked to do otherwise."""
    return not options.get("straight_through", False)
