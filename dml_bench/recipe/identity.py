"""When two runs are the same run, and when two numbers may stand in one ranking."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

APART = ("name", "description", "data_root", "seed")
"""Fields of a recipe that change no digit (or, like the seed, are told beside the id)."""

RULES = {"queries": "leave one out", "ties": "wrong first", "nmi": "k-means++, arithmetic", "selection": "last step"}
"""How every number here is made; a change of one of these is another protocol."""


def recipe_id(document: Mapping[str, Any]) -> str:
    """Return the id of a checked recipe with its defaults filled in: 12 hexadecimal digits."""
    kept = {key: value for key, value in document.items() if key not in APART}
    metrics = sorted(set(document["evaluation"]["metrics"]))
    return _digest({**kept, "evaluation": {**document["evaluation"], "metrics": metrics}})


def protocol_id(data_digest: str) -> str:
    """Return the id of what makes two numbers comparable: the images, their split and the rules of measurement."""
    return _digest({"data": data_digest, **RULES})


def _digest(value: Any) -> str:
    text = json.dumps(_positive_zeros(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _positive_zeros(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _positive_zeros(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_positive_zeros(item) for item in value]
    return value + 0.0 if isinstance(value, float) else value
