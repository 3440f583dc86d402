"""How near embeddings are to each class, without margins, in plain loops over Python floats."""

import math

from dml_bench.testing.oracle.freeform import scores
from dml_bench.testing.oracle.plain import mean

DOT = ("softmax_ce", "ohem", "focal", "class_balanced", "l_softmax", "sm_softmax", "em_softmax", "uncertainty_softmax")
SPHERE = ("w_softmax", "a_softmax", "af_softmax", "uniformface")
SQUARED = ("proxy_nca", "proxy_nca_pp", "c_contrastive", "c_triplet")
SCALES = {
    **dict.fromkeys(("norm_softmax", "softtriple", "hardtriple"), 20.0),
    **dict.fromkeys(("am_softmax", "sv_softmax", "sv_am_softmax", "sv_arc_softmax", "adaptiveface"), 30.0),
    **dict.fromkeys(("arcface", "nra", "nra_two_stage", "unequal_training", "combined_margin"), 64.0),
    "subcenter_arcface": 64.0,
    "proxy_anchor": 32.0,
    "proxy_nca": 9.0,
    "proxy_nca_pp": 9.0,
    "l2_softmax": 16.0,
}
"""The factors on similarities where no option says otherwise; 1 for the rest."""


def similarity(key, options):
    if key == "proxy":
        return options.get("similarity", "cosine")
    if key == "affinity":
        return {"gaussian": options.get("sigma", 10.0)}
    if key in SPHERE:
        return "cosine" if options.get("scale") else "class_cosine"
    kinds = {**dict.fromkeys(DOT, "dot"), **dict.fromkeys(SQUARED, "negative_squared_distance")}
    return {**kinds, "l2_softmax": "feature_cosine"}.get(key, "cosine")


def pooling(key, options):
    if key == "proxy":
        return options.get("centers", "single")
    if key == "softtriple":
        return {options.get("pooling", "soft"): options.get("gamma", 0.1)}
    return "nearest" if key in ("hardtriple", "subcenter_arcface", "affinity") else "single"


def factor(key, options, num_classes):
    if key == "coco":
        return 0.5 * math.log((num_classes - 1) / (math.exp(options.get("epsilon", 1e-4)) - 1))
    if "temperature" in options:
        return 1 / options["temperature"]
    return options.get("scale") or SCALES.get(key, 1.0)


def class_scores(key, x, centers, bias=None, scale=None, options=None):
    """``scale``: where it is learned; ``centers`` of several members give the mean of their scores."""
    options = options or {}
    members = centers if isinstance(centers[0][0][0], list) else [centers]
    tables = [scores(x, head, similarity(key, options), pooling(key, options)) for head in members]
    times = scale or factor(key, options, len(members[0]))
    offsets = bias or [0.0] * len(members[0])
    return [
        [times * mean(table[i][j] for table in tables) + offset for j, offset in enumerate(offsets)]
        for i in range(len(x))
    ]
