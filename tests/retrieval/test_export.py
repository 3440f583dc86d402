"""What is written is read by other programs, by the very lines that the command prints."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from dml_bench.data.embedding_files import read_embeddings
from dml_bench.errors import DmlBenchError
from dml_bench.flow import VOCABULARY, execute
from dml_bench.recipe.reader import read_recipe
from dml_bench.retrieval import export, network
from dml_bench.retrieval.published import Published, data_of, find_one, open_run, stored

KINDS = ["photo_run", "asked_run", "feature_run"]


def read_by(example, folder, monkeypatch):
    """Run the lines of an example in a folder, and return what they leave."""
    monkeypatch.chdir(folder)
    names = {}
    exec(compile(example, "example", "exec"), names)
    return names


@pytest.mark.parametrize("name", KINDS)
def test_npz_holds_what_the_run_was_measured_on(name, request, tmp_path, monkeypatch):
    record = request.getfixturevalue(name)
    content, lacks = export.npz(record)
    (tmp_path / "run.npz").write_bytes(content)
    found, kept = read_by(export.NPZ, tmp_path, monkeypatch), stored(record)
    np.testing.assert_array_equal(found["embeddings"], kept.embeddings)
    np.testing.assert_array_equal(found["labels"], kept.labels)
    read = read_embeddings(tmp_path / "run.npz")
    for one, other in ((read.query, kept.query), (read.gallery, kept.gallery)):
        assert (one is None and other is None) or np.array_equal(one, other)
    with np.load(tmp_path / "run.npz") as parts:
        assert tuple(parts["class_names"].tolist()) == data_of(record).test.class_names
    assert (lacks, (read.paths is None)) == ("", name == "feature_run")
    if read.paths:
        assert read.paths[0] == "class 4/0 ü.png"


def test_npz_without_the_data_says_what_it_lacks(photo_run, tmp_path):
    elsewhere = {**photo_run.recipe, "dataset": {**photo_run.recipe["dataset"], "path": str(tmp_path / "gone")}}
    content, lacks = export.npz(replace(photo_run, recipe=elsewhere))
    assert lacks.startswith("without paths and class names: path: there is no ")
    (tmp_path / "run.npz").write_bytes(content)
    read = read_embeddings(tmp_path / "run.npz")
    assert read.paths is None and np.array_equal(read.embeddings, stored(photo_run).embeddings)


@pytest.mark.parametrize("name", KINDS)
def test_safetensors_makes_the_same_network_and_loss(name, request, photos, tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    record = request.getfixturevalue(name)
    run = open_run(record)
    (tmp_path / "run.safetensors").write_bytes(export.safetensors(run))
    found = read_by(export.SAFETENSORS, tmp_path, monkeypatch)
    images = data_of(record).test.images
    again = Published(record, found["recipe"], found["network"], found["loss"])
    np.testing.assert_array_equal(again.embed(images), stored(record).embeddings)
    assert found["embeddings"].shape == (5, 8)
    embedded = found["embed"](np.array(images[:]))
    np.testing.assert_allclose(embedded, stored(record).embeddings, rtol=0, atol=1e-5)
    if name != "feature_run":
        np.testing.assert_array_equal(found["read"](photos / "class 4" / "0 ü.png"), images[:1])
    weights = {key: value for key, value in found["model"].items() if value.is_floating_point()}
    assert {value.dtype for value in weights.values()} == {torch.float32}  # of a run in bf16 as well
    assert (found["loss"] is None) == (record.loss == "untrained")
    if name == "photo_run":
        np.testing.assert_array_equal(found["loss"].centers.detach(), run.loss.centers.detach())
    assert json.loads(found["said"]["recipe"]) == record.recipe
    assert found["said"]["prepared"].startswith({"asked_run": "grey, ", "photo_run": "rgb, "}.get(name, "features"))


@pytest.mark.parametrize("name", KINDS)
def test_onnx_gives_the_same_embeddings_of_the_test_images(name, request, tmp_path, monkeypatch, capfd):
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module)
    import onnxruntime

    run = open_run(request.getfixturevalue(name))
    content = network.onnx(run)
    assert capfd.readouterr() == ("", "")
    assert network.difference(run, content) < 1e-5
    (tmp_path / "run.onnx").write_bytes(content)
    found = read_by(network.example(run), tmp_path, monkeypatch)
    assert found["embeddings"].shape == (5, 8)
    images = np.array(data_of(run.record).test.images[:])
    for some in (images, images[:1]):
        (embeddings,) = found["session"].run(["embeddings"], {"images": some})
        np.testing.assert_allclose(embeddings, stored(run.record).embeddings[: len(some)], rtol=0, atol=1e-5)
    assert {entry.domain: entry.version for entry in _model(content).opset_import}[""] == network.OPSET
    assert isinstance(found["session"], onnxruntime.InferenceSession)


def test_a_network_that_differs_is_refused(photo_run, feature_run):
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module)
    run = open_run(photo_run)
    content = network.onnx(run)
    with torch.no_grad():
        run.model.head.bias += 1
    with pytest.raises(DmlBenchError, match=r"the ONNX network differs by .*; allowed: 0\.0001"):
        network.difference(run, content)


@pytest.mark.parametrize("backbone", ["pixels", "bn_inception", "convnet", "mlp"])
@pytest.mark.e2e
def test_every_kind_of_network_can_be_written(backbone, tmp_path):
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module)
    options = {"convnet": {"pooling": "mean_max", "grid": 2}}.get(backbone, {})
    recipe = {"name": "x", "dataset": "digits", "backbone": {"name": backbone, **options}, "loss": None, "seeds": [0]}
    recipe |= {
        "embedding": {"dim": 8, "layer_norm": True},
        "references": False,
        "evaluation": {"metrics": ["recall@1"]},
    }
    if backbone == "bn_inception":
        recipe["dataset"] = {"name": "digits", "image_size": 64}
    (run,) = read_recipe(recipe, VOCABULARY)
    assert execute(run, tmp_path).status == "ok"
    opened = open_run(find_one(tmp_path))
    assert network.difference(opened, network.onnx(opened)) < 1e-5


def test_a_package_that_is_missing_is_named_with_its_extra(photo_run, monkeypatch):
    run = open_run(photo_run)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(DmlBenchError, match=r"needs the package safetensors; .* 'dml-bench\[export\]'"):
        export.safetensors(run)
    monkeypatch.setattr(network, "find_spec", lambda name: None)
    with pytest.raises(DmlBenchError, match=r"-f onnx needs the package onnx; .*\[export\]"):
        network.onnx(run)
    assert network.difference(run, b"") is None


def _model(content):
    import onnx

    return onnx.load_from_string(content)
