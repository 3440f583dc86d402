"""A leaderboard of real, very short runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import dml_bench
from dml_bench.leaderboard.entries import add

RECIPE = {
    "name": "tiny",
    "dataset": "digits",
    "backbone": {"name": "convnet", "width": 8},
    "embedding": {"dim": 8},
    "training": {"epochs": 1, "sampler": {"name": "pxk", "classes_per_batch": 5, "images_per_class": 8}},
    "evaluation": {"metrics": ["recall@1", "recall@4", "map@r", "r_precision", "nmi"], "restarts": 1},
    "seeds": [0, 1, 2],
    "grid": {"loss": ["norm_softmax", "contrastive", {"name": "softtriple", "centers_per_class": 3}]},
}


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    dml_bench.run(RECIPE, out=folder)
    return folder


@pytest.fixture
def results(runs, tmp_path) -> Path:
    add([runs], tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def change(results):
    """Edit a file of the first run of norm_softmax as somebody would who wants other numbers."""

    def edit(name: str, old: str, new: str) -> Path:
        found = sorted((results / "records" / "digits").glob("*-s0"))
        folder = next(path for path in found if '"loss": "norm_softmax"' in (path / "record.json").read_text())
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))
        return folder

    return edit


@pytest.fixture
def copy(results):
    def under(folder: Path, name: str) -> Path:
        return Path(shutil.copytree(folder, folder.with_name(name)))

    return under
