"""From a recipe to the scatter: the flow trains, the network embeds its training images, and they are drawn."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from dml_bench.data.dataset import DATASETS
from dml_bench.errors import DataError, ResultsError
from dml_bench.flow import VOCABULARY, execute
from dml_bench.recipe.reader import read_recipe
from dml_bench.results.record import RunRecord
from dml_bench.retrieval.scatter import scatter_figure
from dml_bench.runners.plane import features_2d
from dml_bench.training.assembly import load_run

RECIPE = """
name: tiny
dataset: {name: digits, image_size: 8}
backbone: {name: convnet, width: 4}
embedding: {dim: 2}
training: {epochs: 1, sampler: {name: random, batch_size: 256}}
evaluation: {metrics: [recall@1]}
seeds: [0]
grid:
  loss:
    - {name: l_softmax, margin: 2, annealing: 5}
    - {name: l_softmax, annealing: 5}
    - {name: softtriple, centers_per_class: 3}
    - contrastive
    - softmax_ce
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[RunRecord]:
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "recipe.yaml").write_text(RECIPE)
    done = [execute(run, folder) for run in read_recipe(folder / "recipe.yaml", VOCABULARY)]
    return [dataclasses.replace(run, folder=folder / run.run_id) for run in done]


def test_features_are_those_of_the_network_on_its_training_images_and_centers_those_of_the_loss(runs):
    train = DATASETS.build("digits", None, image_size=8).train
    (run,) = [run for run in runs if run.loss == "softtriple"]
    embeddings, labels, centers, names = features_2d(run.folder)
    model, loss, _ = load_run(run.folder)
    with torch.no_grad():
        expected = model(torch.from_numpy(train.images).permute(0, 3, 1, 2) / 255).numpy()
    assert np.allclose(embeddings, expected, atol=1e-5)
    assert (labels == train.labels).all() and names == ("0", "1", "2", "3", "4")
    assert centers.shape == (5, 3, 2) and np.array_equal(centers, loss.centers.detach().numpy())


def test_each_recipe_has_a_panel_named_by_what_tells_it_apart(runs):
    figure = scatter_figure(runs)
    titles = [axes.get_title(loc="left").split("\n")[0] for axes in figure.axes if axes.get_visible()]
    assert titles == [
        *("softtriple", "contrastive", "softmax_ce"),
        *("l_softmax  margin=2.0", "l_softmax  margin=4.0"),
    ] or titles == ["softtriple", "contrastive", "softmax_ce", "l_softmax  margin=2", "l_softmax  margin=4"]
    assert [len(axes.lines) for axes in figure.axes[:5]] == [15, 0, 5, 5, 5]
    assert "°" in figure.axes[0].get_title(loc="left")


def test_other_runs_are_left_out_and_other_data_is_refused(runs):
    assert scatter_figure([run for run in runs if run.loss in ("raw_pixels", "untrained")]) is None
    other = dataclasses.replace(runs[0], protocol_id="another")
    with pytest.raises(ResultsError, match=r"one data set and protocol, not of digits \(protocol .*another"):
        scatter_figure([*runs, other])
    (raw,) = [run for run in runs if run.loss == "raw_pixels"]
    with pytest.raises(ResultsError, match="have 256 dimensions; a scatter takes 2"):
        features_2d(raw.folder)


def test_data_that_changed_since_is_refused(runs):
    path = runs[0].folder / "record.json"
    text = path.read_text()
    values = json.loads(text)
    values["data"]["digest"] = "f" * 64
    path.write_text(json.dumps(values))
    try:
        with pytest.raises(DataError, match="trained on digits of digest ffffffffffff; here it is"):
            features_2d(runs[0].folder)
    finally:
        path.write_text(text)
