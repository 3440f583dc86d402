"""Runs killed at random instants, each in a process of its own, end with the bytes of a run that was left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from dml_bench import flow
from dml_bench.evaluation.extract import extract
from dml_bench.flow import threads
from dml_bench.recipe.reader import read_recipe
from dml_bench.results.record import RunRecord
from dml_bench.splits import load_split
from dml_bench.training.assembly import load_run

KILLS = int(os.environ.get("DML_BENCH_KILLS", "3"))
"""How many runs are killed; more take longer."""
EVERY = 5
"""Optimizer steps from one checkpoint to the next."""

RUN = """
import json, sys
from pathlib import Path
from dml_bench.flow import VOCABULARY, execute
from dml_bench.recipe.reader import read_recipe

recipe, folder, events = sys.argv[1:4]
[run] = read_recipe(json.loads(recipe), VOCABULARY)
with open(events, "a") as stream:
    def tell(event):
        stream.write(json.dumps(event) + "\\n")
        stream.flush()
    tell({"event": "began"})
    execute(run, Path(folder), tell=tell, checkpoint_every=int(sys.argv[4]))
    tell({"event": "published"})
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A folder of images that have to be decoded, and a run of about 40 steps with all that has a state."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in range(6):
        (folder / str(name)).mkdir()
        for i in range(20):
            image = rng.integers(0, 60, (40, 40, 3), dtype=np.uint8) + 30 * name
            Image.fromarray(image.astype(np.uint8)).save(folder / str(name) / f"{i}.png")
    return {
        "name": "killed",
        "dataset": {"name": "folder", "path": str(folder), "image_size": 16},
        "backbone": {"name": "convnet", "width": 8, "dropout": 0.1},
        "embedding": {"dim": 16},
        "loss": {"name": "softtriple", "centers_per_class": 3},
        "training": {
            "epochs": 6,
            "sampler": {"name": "adaptive", "batch_size": 8},
            "ema": 0.9,
            "augmentation": {"flip": True, "crop": "resized", "brightness": 0.2},
        },
        "evaluation": {"metrics": ["recall@1", "map@r", "nmi"], "restarts": 2},
        "references": False,
    }


class Runs:
    """Start the run in a process, again and again, in a folder."""

    def __init__(self, recipe, folder):
        self.recipe, self.folder, self.events = recipe, folder / "runs", folder / "events"

    def start(self):
        command = [sys.executable, "-c", RUN, json.dumps(self.recipe), str(self.folder), str(self.events), str(EVERY)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def told(self):
        lines = self.events.read_text().splitlines() if self.events.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def finish(self):
        process = self.start()
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        [path] = self.folder.glob("*-s0")
        return path


def result(path):
    record = RunRecord.read(path / "record.json")
    curve = [(epoch.epoch, epoch.loss, epoch.learning_rate) for epoch in record.curve]
    with np.load(path / "embeddings.npz") as stored, np.load(path / "per_query.npz") as queries:
        arrays = {**stored, **{f"query {name}": values for name, values in queries.items()}}
    return dict(record.metrics), curve, {name: values.tobytes() for name, values in arrays.items()}


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    """The run that was left alone, what it came to, and how long it took."""
    runs = Runs(recipe, tmp_path_factory.mktemp("whole"))
    start = time.monotonic()
    path = runs.finish()
    steps = sum(event["event"] == "step" for event in runs.told())
    assert RunRecord.read(path / "record.json").attempts == 1
    return path, result(path), time.monotonic() - start, steps


def test_the_weights_read_back_are_those_that_were_measured(whole):
    model, loss, recipe = load_run(whole[0])
    assert loss is not None
    assert recipe.loss["name"] == "softtriple"
    with threads(1), np.load(whole[0] / "embeddings.npz") as stored:
        again = extract(model, load_split(recipe).test.images)
        assert again.tobytes() == stored["embeddings"].tobytes()


def test_a_run_that_is_stopped_while_it_is_published_does_not_train_again(recipe, tmp_path, monkeypatch):
    short = {"backbone": {"name": "pixels", "size": 4}, "training": {"epochs": 1, "sampler": "random"}}
    [run] = read_recipe({**recipe, **short}, flow.VOCABULARY)

    def stopped(recipe):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(flow, "write_recipe", stopped)
        with pytest.raises(KeyboardInterrupt):
            flow.execute(run, tmp_path)
    events = []
    record = flow.execute(run, tmp_path, tell=events.append)
    assert record.status == "ok"
    assert record.attempts == 2
    assert record.resumed_from > 0
    assert not [event for event in events if event["event"] == "step"]
    assert not list((tmp_path / run.run_id).glob("checkpoint-*"))
    assert not (tmp_path / run.run_id / "attempts").exists()


@pytest.mark.e2e
@pytest.mark.parametrize("number", range(KILLS))
def test_a_killed_run_ends_as_if_it_had_not_been(recipe, whole, tmp_path, number):
    _, expected, seconds, steps = whole
    runs, rng = Runs(recipe, tmp_path), random.Random(number)
    process = runs.start()
    time.sleep(seconds * rng.uniform(0.3, 1.0))  # imports take the first third
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = [event for event in runs.told() if event["event"] == "step"]
    was_published = any(runs.folder.glob("*-s0")) if runs.folder.exists() else False
    path = runs.finish()
    assert result(path) == expected
    assert sorted(file.name for file in runs.folder.iterdir()) == [path.name]
    assert not list(path.glob("checkpoint-*")), "checkpoints are not published"
    if was_published:
        return
    after = [event for event in runs.told() if event["event"] == "step"][len(before) :]
    record = RunRecord.read(path / "record.json")
    assert len(after) == steps - record.resumed_from
    assert record.resumed_from >= len(before) - EVERY
    assert record.attempts == 2 or not before
