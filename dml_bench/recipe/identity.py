"""When two runs are the same run, and when two numbers may stand in one ranking."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from dml_bench.recipe.weights import named_by_content

APART = ("name", "description", "data_root", "resources", "seed", "tuning")
"""Fields of a recipe that change no digit (or, like the seed, are told beside the id)."""

GROUP = ("lr", "lr_factor", "weight_decay", "eps")
LATER: dict[tuple[str, ...], Any] = {
    ("subset",): [],
    ("normalize",): "dataset",
    ("selection",): {"name": "last"},
    ("dataset", "square"): False,
    ("backbone", "pooling"): "mean",
    ("backbone", "grid"): 1,
    ("embedding", "init"): "uniform",
    ("embedding", "bias"): True,
    ("evaluation", "distance"): "cosine",
    ("training", "sampler", "drop_last"): True,
    ("training", "steps"): None,
    ("training", "images"): None,
    **{("training", part): dict.fromkeys(GROUP) for part in ("backbone", "head")},
    ("training", "centers", "lr_factor"): None,
    ("training", "centers", "eps"): None,
    ("training", "decay"): "all",
    ("training", "schedule_by"): "step",
    ("training", "freeze"): [],
    ("training", "head_epochs"): 0,
    ("training", "clip_value"): None,
    ("training", "clip_norm"): None,
    ("training", "accumulate"): 1,
    ("training", "chunk"): None,
    ("training", "ema"): None,
    ("training", "channels_last"): None,
    ("training", "compile"): False,
    ("training", "deterministic"): False,
    ("training", "augmentation", "crop"): "none",
    ("training", "augmentation", "crop_from"): None,
    ("training", "augmentation", "crop_scale"): [0.08, 1.0],
    ("training", "augmentation", "crop_ratio"): [3 / 4, 4 / 3],
    ("training", "augmentation", "brightness"): 0.0,
    ("training", "augmentation", "contrast"): 0.0,
    ("training", "augmentation", "saturation"): 0.0,
    ("training", "augmentation", "hue"): 0.0,
    ("training", "augmentation", "blur"): 0.0,
}
"""Fields that recipes did not always have; at these values, which change nothing, they leave an id as it was."""

RULES = {
    "queries": "leave one out",
    "ties": "wrong first",
    "nmi": "k-means++, Lloyd on all points until nothing moves, arithmetic",
    "selection": "last step",
}
"""How every number here is made; a change of one of these is another protocol."""


def recipe_id(document: Mapping[str, Any]) -> str:
    """Return the id of a checked recipe with its defaults filled in: 12 hexadecimal digits.

    A file of weights is named by its sha256, so that where it lies makes no difference, and what is in it does.
    """
    kept = {key: value for key, value in document.items() if key not in APART}
    kept["backbone"] = named_by_content(kept.get("backbone"))
    kept["loss"] = _plain_numbers(_plain_init(kept.get("loss")))
    for path, default in LATER.items():
        kept = _without(kept, path, default)
    metrics = sorted(set(map(_plain_metric, kept["evaluation"]["metrics"])))
    return _digest({**kept, "evaluation": {**kept["evaluation"], "metrics": metrics}})


def _plain_init(loss: Any) -> Any:
    """Leave out the usual start of centers where losses did not always have a choice of it."""
    lately = isinstance(loss, Mapping) and loss.get("name") in ("norm_softmax", "proxy_nca", "proxy_nca_pp")
    return _without(loss, ("init",), "unit") if lately else loss


def _plain_numbers(loss: Any) -> Any:
    """Write whole numbers of a library's loss in one way: nobody says of its options whether 80 is 80.0."""
    foreign = isinstance(loss, Mapping) and str(loss.get("name", "")).startswith("pml.")
    return _whole(loss) if foreign else loss


def _plain_metric(name: str) -> str:
    """Write ``tar@1e-3`` as ``tar@0.001``."""
    word, at, number = name.partition("@")
    try:
        return name if number.isdigit() else f"{word}{at}{float(number)!r}"
    except ValueError:
        return name


def _whole(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def protocol_id(data_digest: str, distance: str = "cosine", selection: Mapping[str, Any] | None = None) -> str:
    """Return the id of what makes two numbers comparable: the images, their split and the rules of measurement."""
    rules = {**RULES, "selection": selection_rule(selection) or RULES["selection"]}
    return _digest({"data": data_digest, **rules, "distance": distance})


def selection_rule(selection: Mapping[str, Any] | None) -> str:
    """Say how the measured network was selected; nothing if it is the last one.

    Which fold a validation holds out, its pace and its patience are no part of the protocol.
    """
    if selection is None or selection["name"] == "last":
        return ""
    metric = selection.get("metric")
    if selection["name"] == "validation":
        return f"best epoch by {metric} on held-out training classes, {selection.get('folds')} folds"
    if selection["name"] == "test_oracle":
        every = selection.get("every", 1)
        looks = "" if every == 1 else f", every {every} epochs"
        return f"best epoch by {metric} on the TEST classes (test_oracle){looks}"
    return json.dumps(dict(selection), sort_keys=True)


def _digest(value: Any) -> str:
    text = json.dumps(_positive_zeros(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _without(values: Any, path: tuple[str, ...], default: Any) -> Any:
    """Return ``values`` less what stands at ``path``, if it is there and is ``default``."""
    key, *rest = path
    if not isinstance(values, Mapping) or key not in values:
        return values
    if rest:
        return {**values, key: _without(values[key], tuple(rest), default)}
    return {name: value for name, value in values.items() if name != key or value != default}


def _positive_zeros(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _positive_zeros(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_positive_zeros(item) for item in value]
    return value + 0.0 if isinstance(value, float) else value
