"""One run that begins from a file of weights, from recipe to record."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from dml_bench import run
from dml_bench.errors import DataError
from dml_bench.evaluation.extract import extract
from dml_bench.flow import threads
from dml_bench.recipe.schema import Recipe
from dml_bench.runners.plan import plan
from dml_bench.splits import load_split
from dml_bench.training.assembly import load_run

SHORT = [
    "training.epochs=1",
    "training.sampler.classes_per_batch=2",
    "training.sampler.images_per_class=2",
    "evaluation.metrics=[recall@1]",
]


@pytest.fixture
def root(tmp_path, official):
    """Four classes of color images, and the weights beside them."""
    random = np.random.default_rng(0)
    for label in range(4):
        (tmp_path / "images" / f"class{label}").mkdir(parents=True)
        for i in range(3):
            pixels = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / f"class{label}" / f"{i}.png")
    torch.save(official, tmp_path / "w.pth")
    return tmp_path


def recipe(root):
    digest = hashlib.sha256((root / "w.pth").read_bytes()).hexdigest()
    return {
        "dataset": {"name": "folder", "path": "images", "image_size": 64},
        "data_root": str(root),
        "normalize": "caffe",
        "backbone": {"name": "bn_inception", "weights": "w.pth", "sha256": digest[:8]},
        "embedding": {"dim": 8},
        "loss": "norm_softmax",
        "references": False,
    }, digest


def test_the_record_tells_what_the_network_began_from(root):
    document, digest = recipe(root)
    (record,) = run(document, changes=SHORT, out=root / "runs")
    assert record.status == "ok", record.reason
    assert record.weights == digest
    assert record.recipe["backbone"]["weights"] == "w.pth"
    assert record.environment


def test_another_file_is_found_out_before_any_run(root):
    document, _ = recipe(root)
    torch.save({"conv1_7x7_s2.weight": torch.zeros(1)}, root / "w.pth")
    with pytest.raises(DataError, match=r"w\.pth: not the file that is meant"):
        run(document, changes=SHORT, out=root / "runs")
    assert not list((root / "runs").glob("*-s0"))


def test_the_data_root_of_the_command_line_holds_the_weights_too(root, monkeypatch):
    monkeypatch.delenv("DML_BENCH_DATA", raising=False)
    document, digest = recipe(root)
    del document["data_root"]
    document |= {"backbone": {"name": "resnet18", "weights": "w.pth"}}
    (planned,) = plan(document, data_root=root).runs
    assert planned.recipe.backbone["sha256"] == digest
    assert planned.recipe.data_root == str(root)


@pytest.mark.parametrize("embedding", [None, {"dim": 8}], ids=str)
def test_a_run_is_read_back_without_the_file_it_began_from(root, embedding):
    document, _ = recipe(root)
    document |= {"embedding": embedding, **({} if embedding else {"loss": None})}
    (record,) = run(document, changes=SHORT if embedding else SHORT[-1:], out=root / "runs")
    split = load_split(Recipe.model_validate(dict(record.recipe)))
    (root / "w.pth").unlink()
    folder = root / "runs" / record.run_id
    model, _, _ = load_run(folder)
    with threads(1), np.load(folder / "embeddings.npz") as stored:
        assert extract(model, split.test.images).tobytes() == stored["embeddings"].tobytes()
