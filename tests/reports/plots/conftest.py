"""Published runs, of which the values per query are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from dml_bench.reports.style import looks
from dml_bench.reports.summary import sections
from dml_bench.results.record import RunRecord

Publish = Callable[..., list[RunRecord]]


@pytest.fixture(scope="session")
def publish(make, tmp_path_factory) -> Publish:
    """Return what makes the seeds of one loss, whose queries are hits at about the rate of their class."""

    def published(loss: str, rate: float, seeds: int = 3, classes: int = 20, **changes: Any) -> list[RunRecord]:
        labels = np.repeat(np.arange(classes), 15)
        runs = []
        for seed in range(seeds):
            rng = np.random.default_rng([seed, round(1000 * rate)])
            rates = rate + np.linspace(-0.08, 0.08, classes)
            hits = (rng.random(len(labels)) < rates[labels]).astype(np.float32)
            run = make(loss, seed, **({"metrics": {"recall@1": float(hits.mean())}} | changes))
            folder = tmp_path_factory.mktemp("run")
            np.savez(folder / "per_query.npz", query=np.arange(len(labels)), label=labels, **{"recall@1": hits})
            runs.append(replace(run, folder=folder))
        return runs

    return published


@pytest.fixture
def draw_one() -> Callable[..., Figure | None]:
    """Return what draws a picture of runs of one data set."""

    def figure(picture: Callable[..., Figure | None], runs: list[RunRecord]) -> Figure | None:
        (section,) = sections(runs)
        return picture(section, looks([section]))

    return figure
