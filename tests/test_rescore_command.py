"""``dml-bench rescore``: old numbers come out the same, new ones are right, and nothing published is touched."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from dml_bench.cli import app
from dml_bench.errors import OptionError, ResultsError
from dml_bench.flow import VOCABULARY, execute
from dml_bench.recipe.reader import read_recipe

RECIPE = {
    "name": "tiny",
    "dataset": "digits",
    "embedding": {"dim": 8},
    "loss": None,
    "references": False,
    "evaluation": {"metrics": ["recall@1", "map@r", "nmi"], "restarts": 2},
    "seeds": [0, 1],
}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Two untrained runs."""
    folder = tmp_path_factory.mktemp("published")
    for run in read_recipe(RECIPE, VOCABULARY):
        assert execute(run, folder).status == "ok"
    return folder


@pytest.fixture
def runs(published, tmp_path):
    """A copy of them that a test may harm."""
    return shutil.copytree(published, tmp_path / "runs")


@pytest.fixture
def command():
    return lambda *words: CliRunner().invoke(app, ["rescore", *map(str, words)])


def change(run, **fields):
    path = run / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def contents(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_recorded_metrics_come_out_the_same_and_the_runs_stay_as_they_are(published, command, tmp_path):
    before = contents(published)
    done = command(published, "--metrics", "recall@1,map@r,nmi", "-o", tmp_path / "deep" / "out.csv")
    assert done.exit_code == 0, done.output
    for name in ("recall@1", "map@r", "nmi"):
        assert f"{name:<8}  0 of 2 runs differ, largest difference 0: as recorded" in done.stdout
    assert "Recorded by" not in done.stdout
    assert contents(published) == before
    lines = list(csv.DictReader((tmp_path / "deep" / "out.csv").read_text().splitlines()))
    assert [line["metric"] for line in lines] == ["recall@1", "map@r", "nmi", "nmi_restart_std"] * 2
    assert all(line["value"] == line["recorded"] != "" for line in lines)


def test_a_new_metric_is_that_of_the_stored_embeddings(published, command):
    done = command(published, "--metrics", "precision@3,uniformity", "--format", "json")
    assert done.exit_code == 0, done.output
    for run in json.loads(done.stdout)["runs"]:
        with np.load(f"{run['folder']}/embeddings.npz") as stored:
            rows, labels = stored["embeddings"].astype(float), stored["labels"]
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        similarity = rows @ rows.T
        np.fill_diagonal(similarity, -np.inf)
        found = labels[np.argsort(-similarity, axis=1)[:, :3]] == labels[:, None]
        assert run["rescored"]["precision@3"] == pytest.approx(found.mean(), abs=1e-3)
        apart = np.triu_indices(len(rows), 1)
        distances = 2 - 2 * (rows @ rows.T)[apart]
        assert run["rescored"]["uniformity"] == pytest.approx(np.log(np.exp(-2 * distances).mean()), abs=1e-5)
        assert "recall@1" in run["recorded"]


def test_a_number_that_differs_is_shown_beside_the_recorded_one_with_the_versions(runs, command):
    one, _ = sorted(runs.iterdir())
    metrics = json.loads((one / "record.json").read_text())["metrics"]
    change(one, metrics={**metrics, "recall@1": 0.125}, environment={"dml_bench": "0.0.1"})
    done = command(runs, "--metrics", "recall@1")
    assert done.exit_code == 0, done.output
    difference = f"{metrics['recall@1'] - 0.125:.2g}"
    assert f"recall@1  1 of 2 runs differ, largest difference {difference}: 0.125000 recorded" in done.stdout
    assert f"{metrics['recall@1']:.6f} rescored in {one.name}" in done.stdout
    assert "Recorded by dml_bench 0.0.1" in done.stdout


def test_runs_that_cannot_be_scored_are_named_and_the_others_scored(runs, command):
    one, other = sorted(runs.iterdir())
    (one / "embeddings.npz").unlink()
    done = command(runs, "--metrics", "recall@1")
    assert done.exit_code == 1
    assert "1 of 2 ok" in done.stdout
    assert f"Failed: untrained, seed 0: {one / 'embeddings.npz'}: " in done.stdout
    (other / "embeddings.npz").write_bytes(b"PK no archive")
    lines = list(csv.DictReader(io.StringIO(command(runs, "--metrics", "recall@1", "--format", "csv").stdout)))
    assert [line["status"] for line in lines] == ["failed", "failed"]
    assert [str(run) in line["reason"] for run, line in zip((one, other), lines, strict=True)] == [True, True]


def test_embeddings_of_another_run_are_refused(runs, command):
    one, _ = sorted(runs.iterdir())
    np.savez(one / "embeddings.npz", embeddings=np.ones((4, 8), np.float32), labels=np.array([0, 0, 1, 1]))
    done = command(runs, "--metrics", "recall@1")
    assert done.exit_code == 1
    assert "embeddings of shape (4, 8), but the run's record says" in done.stdout


def test_a_failed_run_keeps_its_reason_and_is_no_error(runs, command):
    one, _ = sorted(runs.iterdir())
    change(one, status="failed", reason="loss is nan", metrics={})
    done = command(runs, "--metrics", "recall@1")
    assert done.exit_code == 0
    assert "Failed: untrained, seed 0: loss is nan" in done.stdout


def test_other_restarts_give_another_nmi(published, command):
    done = command(published, "--metrics", "nmi", "--restarts", "1", "--format", "json")
    for run in json.loads(done.stdout)["runs"]:
        assert set(run["rescored"]) == {"nmi"}
        assert run["rescored"]["nmi"] != run["recorded"]["nmi"]


def test_mistakes_are_found_before_anything_is_done(published, command):
    done = command(published, "--metrics", "recal@1")
    assert isinstance(done.exception, OptionError)
    record = next(published.rglob("record.json"))
    before = record.read_bytes()
    done = command(published, "-o", record)
    assert isinstance(done.exception, ResultsError)
    assert "never edited" in str(done.exception)
    assert record.read_bytes() == before
