"""Small published runs: of photos in folders, of queries and a gallery in a table, of digits, of features."""

import numpy as np
import pytest
from PIL import Image

from dml_bench.flow import VOCABULARY, execute
from dml_bench.recipe.reader import read_recipe
from dml_bench.results.store import read_runs

TINY = {
    "name": "tiny",
    "backbone": {"name": "convnet", "width": 4},
    "embedding": {"dim": 8},
    "references": False,
    "training": {"epochs": 1, "sampler": {"name": "pxk", "classes_per_batch": 2, "images_per_class": 4}},
    "evaluation": {"metrics": ["recall@1", "map@r"]},
    "seeds": [0],
}


def publish(folder, **changes):
    """Do the runs of a recipe, and return their records."""
    for run in read_recipe({**TINY, **changes}, VOCABULARY):
        record = execute(run, folder)
        assert record.status == "ok", record.reason
    return read_runs([folder])


def draw_photos(top, classes=8, images=6, channels=3):
    """Write noise around a color, or grey, that is the class's own."""
    rng = np.random.default_rng(0)
    for label in range(classes):
        color = rng.integers(60, 196, channels)
        for i in range(images):
            noise = rng.integers(-60, 60, (20 + i, 24, channels))
            path = top / f"class {label}" / f"{i} ü.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((color + noise).astype(np.uint8).squeeze()).save(path)
    return top


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    return draw_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="session")
def photo_run(photos, tmp_path_factory):
    """A run of softtriple in bf16 on photos."""
    (record,) = publish(
        tmp_path_factory.mktemp("photo-runs"),
        dataset={"name": "folder", "path": str(photos), "image_size": 16, "resize": 18},
        loss={"name": "softtriple", "centers_per_class": 2},
        training={**TINY["training"], "precision": "bf16"},
    )
    return record


@pytest.fixture(scope="session")
def asked_run(photos, tmp_path_factory):
    """An untrained run on a table whose first three test images of a class ask and whose others are searched; grey."""
    lines = ["path,label,split"]
    for label in range(8):
        for i in range(6):
            part = "train" if label < 4 else "query" if i < 3 else "gallery"
            lines.append(f"class {label}/{i} ü.png,class {label},{part}")
    (photos / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    dataset = {"name": "table", "path": str(photos / "table.csv"), "image_size": 16, "color": "grey"}
    (record,) = publish(tmp_path_factory.mktemp("asked-runs"), dataset=dataset, loss=None)
    return record


@pytest.fixture(scope="session")
def feature_run(tmp_path_factory):
    """A run on features."""
    folder = tmp_path_factory.mktemp("feature-runs")
    labels = np.repeat(np.arange(8), 6)
    features = np.random.default_rng(0).standard_normal((48, 5)).astype(np.float32)
    np.savez(folder / "features.npz", embeddings=features + labels[:, None], labels=labels)
    dataset = {"name": "embeddings", "path": str(folder / "features.npz")}
    (record,) = publish(folder / "runs", dataset=dataset, backbone="mlp", loss="norm_softmax")
    return record


@pytest.fixture(scope="session")
def digit_runs(tmp_path_factory):
    """The reference rows of digits: raw pixels, and an untrained network."""
    folder = tmp_path_factory.mktemp("digit-runs")
    publish(folder, dataset="digits", loss=None)
    return publish(folder, dataset="digits", loss=None, backbone={"name": "pixels", "size": 4}, embedding=None)
