"""``reported``, ``diff`` and ``audit`` from the command line."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from dml_bench import splits
from dml_bench.cli import app
from dml_bench.errors import DmlBenchError
from dml_bench.flow import VOCABULARY, execute
from dml_bench.recipe.reader import read_recipe
from dml_bench.reports.ledger import datasets
from dml_bench.results.record import RunRecord


def say(*words, ok=True):
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert (done.exit_code == 0) == ok, done.output
    return done.output


def test_the_ledger_is_browsed():
    text = say("reported", "cub200", "--loss", "softtriple", "--metric", "recall@1", "--dim", "64")
    assert "60.1" in text and "[1] SoftTriple paper" in text and "2 figures" in text
    rows = list(csv.DictReader(io.StringIO(say("reported", "cub200", "--format", "csv"))))
    assert len(rows) == datasets()["cub200"]
    assert {row["second_hand"] for row in rows} == {"yes", "no"}
    assert say("reported", "sop", "--method", "proxynca++", "--format", "md").startswith("| method | loss |")


def test_the_data_sets_of_the_ledger_are_listed():
    counts = dict(line.split(maxsplit=1)[::-1] for line in say("reported").splitlines())
    assert {name: int(count) for name, count in counts.items()} == datasets()


def test_an_unknown_data_set_is_a_mistake_with_a_suggestion():
    with pytest.raises(DmlBenchError, match="did you mean 'cub200'"):
        say("reported", "cub2000")


def record(folder, **changes):
    values = {"recipe_name": "g", "recipe_id": "0123456789ab", "protocol_id": "p", "seed": 0, "dataset": "digits"}
    values |= {"loss": "arcface", "backbone": "convnet", "embedding_dim": 64, "status": "ok", "metrics": {"nmi": 0.5}}
    values |= {"recipe": {"dataset": {"name": "digits"}, "loss": {"name": "arcface", "margin": 0.1}}}
    run = RunRecord(**(values | changes))
    (folder / run.run_id).mkdir(parents=True)
    run.write(folder / run.run_id)
    return folder / run.run_id


def test_runs_and_rows_are_compared(tmp_path):
    first, second = record(tmp_path), record(tmp_path, seed=1, weights="a|b <c> & ü")
    other = record(tmp_path, recipe_id="ba9876543210", recipe={"loss": {"name": "arcface", "margin": 0.2}})
    assert "nothing differs" in say("diff", first, first)
    assert "nothing differs" in say("diff", f"{tmp_path}:0123456789ab-s0", first)
    assert "B: a|b <c> & ü" in say("diff", first, second)
    text = say("diff", f"{tmp_path}:0123456789ab", other)
    assert "(2 runs)" in text and "loss.margin" in text and "dataset.name" in text
    with pytest.raises(DmlBenchError, match="did you mean '0123456789ab'"):
        say("diff", f"{tmp_path}:0123456789aa", first)


def test_a_recipe_is_compared_with_a_recipe(tmp_path):
    for name, margin in (("a", 0.1), ("b", 0.2)):
        text = f"dataset: digits\nloss: {{name: arcface, margin: {margin}}}\n"
        (tmp_path / f"{name}.yaml").write_text(text)
    text = say("diff", tmp_path / "a.yaml", tmp_path / "b.yaml")
    assert [line.split()[0] for line in text.splitlines() if "A: " in line][1:] == ["recipe_id", "loss.margin", "name"]


def test_an_audit_is_strict_only_if_asked(tmp_path):
    record(tmp_path)
    (tmp_path / ".work-0123456789ab-s1").mkdir()
    assert "1 seed; below 3" in say("audit", tmp_path, "--no-data")
    say("audit", tmp_path, "--no-data", "--strict", ok=False)
    found = json.loads(say("audit", tmp_path, "--no-data", "--format", "json"))
    assert found["runs"] == 1
    assert {finding["check"] for finding in found["findings"]} == {"seeds", "unfinished", "not-checked"}


def pictures(folder):
    """Class folders of noise; returns the file of one training image and the folder of a test class."""
    rng = np.random.default_rng(0)
    for name in "abcdef":
        (folder / name).mkdir(parents=True)
        for number in range(6):
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            coarse.resize((64, 64), Image.Resampling.BICUBIC).save(folder / name / f"{number}.png")
    return folder / "a" / "0.png", folder / "f"


RECIPE = {
    "dataset": {"name": "folder", "image_size": 64},
    "loss": {"name": "proxy_anchor"},
    "backbone": {"name": "convnet", "width": 8},
    "training": {"epochs": 1, "sampler": {"name": "random", "batch_size": 8}},
    "evaluation": {"metrics": ["recall@1", "nmi"], "restarts": 1},
    "references": False,
}


def test_an_audit_finds_a_copied_image_and_changed_data(tmp_path, monkeypatch):
    monkeypatch.setenv("DML_BENCH_CACHE", str(tmp_path / "cache"))
    source, test_class = pictures(tmp_path / "images")
    recipe = {**RECIPE, "dataset": {**RECIPE["dataset"], "path": str(tmp_path / "images")}}
    (run,) = read_recipe(recipe, VOCABULARY)
    done = execute(run, tmp_path / "runs")
    assert done.status == "ok", done.reason
    assert done.checks == {"centers": 3, "centers_still": 0, "kmeans_unconverged": 0}
    checks = [f["check"] for f in json.loads(say("audit", tmp_path / "runs", "--format", "json"))["findings"]]
    assert checks == ["seeds"]
    copy = Image.open(source).point(lambda level: min(255, level + 5))
    copy.save(test_class / "0.png")
    splits._load.cache_clear()  # as in another process
    text = say("audit", tmp_path / "runs", "--strict", ok=False)
    assert "1 of 18 test images (5.6 %) have a near-duplicate in the training part" in text
    assert "training image 0 ('a') and test image 12 ('f')" in text
    assert "not what the runs saw" in text
    images = tmp_path / "images"
    images.rename(tmp_path / "elsewhere")
    splits._load.cache_clear()
    assert "data not here" in say("audit", tmp_path / "runs")
