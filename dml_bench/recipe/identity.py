"""When two runs are the same run, and when two numbers may stand in one ranking."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

APART = ("name", "description", "data_root", "seed")
"""Fields of a recipe that change no digit (or, like the seed, are told beside the id)."""

RULES = {
    "queries": "leave one out",
    "ties": "wrong first",
    "nmi": "k-means++, Lloyd on all points until nothing moves, arithmetic",
    "selection": "last step",
}
"""How every number here is made; a change of one of these is another protocol."""

ADDED = {"distance": "cosine"}
"""Options of ``evaluation`` that are younger than published ids: at these values they leave ids as they were."""


def recipe_id(document: Mapping[str, Any]) -> str:
    """Return the id of a checked recipe with its defaults filled in: 12 hexadecimal digits."""
    kept = {key: value for key, value in document.items() if key not in APART}
    evaluation = {key: value for key, value in document["evaluation"].items() if ADDED.get(key) != value}
    return _digest({**kept, "evaluation": {**evaluation, "metrics": sorted(set(evaluation["metrics"]))}})


def protocol_id(data_digest: str, distance: str = "cosine") -> str:
    """Return the id of what makes two numbers comparable: the images, their split and the rules of measurement."""
    return _digest({"data": data_digest, **RULES, "distance": distance})


def _digest(value: Any) -> str:
    text = json.dumps(_positive_zeros(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _positive_zeros(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _positive_zeros(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_positive_zeros(item) for item in value]
    return value + 0.0 if isinstance(value, float) else value
