"""Made-up run records: reports are judged by what they make of known numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dml_bench.results.record import Epoch, RunRecord

QUICKSTART_LOSSES = (
    *("softtriple", "norm_softmax", "am_softmax", "arcface", "proxy_nca", "proxy_nca_pp", "hardtriple", "contrastive"),
    *("triplet_batch_hard", "triplet_semihard", "multi_similarity"),
)


def record(loss: str = "arcface", seed: int = 0, **changes: Any) -> RunRecord:
    values: dict[str, Any] = {
        "recipe_name": "quickstart",
        "recipe_id": f"id_{loss}_{changes.get('options', '')}",
        "protocol_id": "p0",
        "seed": seed,
        "dataset": "glyphs",
        "loss": loss,
        "backbone": "convnet",
        "embedding_dim": 64,
        "status": "ok",
        "metrics": {"recall@1": 0.8},
        "seconds": {"train": 6.0},
    }
    return RunRecord(**(values | changes))


def realistic(loss: str, seed: int, level: float, **changes: Any) -> RunRecord:
    rng = random.Random(f"{loss}{seed}{changes.get('options')}")
    miss = 1 - level + rng.gauss(0, 0.006)
    metrics = {f"recall@{k}": 1 - miss * 0.62 ** math.log2(k) for k in (1, 2, 4, 8)}
    metrics |= {
        "map@r": 0.6 * (1 - miss),
        "r_precision": 0.7 * (1 - miss),
        "nmi": 0.9 * (1 - miss) + rng.gauss(0, 0.004),
    }
    metrics |= {"nmi_restart_std": 0.003 + 0.002 * rng.random()}
    curve = tuple(Epoch(e, 8 * level * math.exp(-0.3 * e) + rng.random() * 0.2, 1e-3, 900.0, 0.5) for e in range(1, 13))
    if loss in ("raw_pixels", "untrained"):
        curve, changes = (), {"seconds": {"train": 0.0}} | changes
    centers = (
        tuple(rng.choice((1, 1, 2, 3, 5)) for _ in range(60)) if "triple" in loss and "triplet" not in loss else ()
    )
    return record(loss, seed, metrics=metrics, curve=curve, centers_left=centers, **changes)


@pytest.fixture(scope="session")
def make() -> Callable[..., RunRecord]:
    return record


@pytest.fixture(scope="session")
def quickstart() -> list[RunRecord]:
    """Eleven losses and both references with two seeds."""
    levels = {loss: 0.76 + 0.008 * i for i, loss in enumerate(QUICKSTART_LOSSES)}
    levels |= {"raw_pixels": 0.33, "untrained": 0.22}
    return [realistic(loss, seed, level) for loss, level in levels.items() for seed in (0, 1)]


@pytest.fixture(scope="session")
def options_grid() -> list[RunRecord]:
    """25 rows with options, one of which is long and one of which failed."""
    runs = []
    for i, k in enumerate((1, 2, 5, 10)):
        for j, gamma in enumerate((0.05, 0.1, 0.2)):
            options = {"centers_per_class": k, "gamma": gamma}
            runs += [realistic("softtriple", s, 0.80 + 0.007 * i + 0.002 * j, options=options) for s in (0, 1, 2)]
    for i, scale in enumerate((8.0, 16.0, 30.0, 64.0)):
        for j, loss in enumerate(("arcface", "am_softmax", "norm_softmax")):
            options = {"scale": scale, "training.epochs": 5} if scale == 8 else {"scale": scale}
            runs += [realistic(loss, s, 0.74 + 0.02 * i + 0.005 * j, options=options) for s in (0, 1, 2)]
    long = {"margin": 0.35, "annealing": {"base": 1000, "gamma": 0.12, "power": 1, "minimum": 5}, "training.epochs": 40}
    runs += [realistic("a_softmax", s, 0.7, options=long, status="failed", reason="loss is nan") for s in (0, 1, 2)]
    runs += [realistic("untrained", 0, 0.2)]
    return runs


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., RunRecord]:
    """Make a record whose folder holds embeddings, and what was measured of each query if it is given."""

    def keep(
        embeddings: Any, labels: Any, loss: str = "arcface", seed: int = 0, per_query: Any = None, **parts: Any
    ) -> RunRecord:
        changes = {name: parts.pop(name) for name in ("recipe", "metrics", "options") if name in parts}
        folder = tmp_path / f"{loss}-s{seed}"
        folder.mkdir()
        np.savez(folder / "embeddings.npz", embeddings=np.float32(embeddings), labels=np.array(labels), **parts)
        if per_query is not None:
            np.savez(folder / "per_query.npz", **per_query)
        return replace(record(loss, seed, **changes), folder=folder)

    return keep
