"""One seed per use, so that a new draw somewhere leaves every other draw alone."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *use: str | int) -> int:
    """Return the 63-bit seed of one use of randomness, such as ``derive_seed(0, "sampler", epoch)``."""
    text = "/".join(map(str, (seed, *use)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
