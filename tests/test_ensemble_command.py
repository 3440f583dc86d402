"""``dml-bench ensemble``: the folds of a cross-validation, each for itself and as one."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from dml_bench.cli import app
from dml_bench.errors import DataError, ResultsError
from dml_bench.evaluation.evaluate import evaluate
from dml_bench.flow import VOCABULARY, execute
from dml_bench.recipe.reader import read_recipe
from dml_bench.runners.ensembles import ensembles

RECIPE = {
    "name": "folds",
    "dataset": "digits",
    "embedding": {"dim": 8},
    "training": {"epochs": 1, "sampler": {"name": "pxk", "classes_per_batch": 2, "images_per_class": 8}},
    "selection": {"name": "validation", "folds": 2, "metric": "recall@1"},
    "evaluation": {"metrics": ["recall@1"], "restarts": 1},
    "references": False,
    "loss": "norm_softmax",
    "grid": {"selection.fold": [1, 2]},
}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    for run in read_recipe(RECIPE, VOCABULARY):
        assert execute(run, folder).status == "ok"
    return folder


def test_separate_and_concatenated_are_what_evaluate_says_of_them(published):
    (found,) = ensembles([published], ["recall@1", "map@r"])
    parts = [np.load(folder / "embeddings.npz") for folder in found.folders]
    labels = parts[0]["labels"]
    alone = [evaluate(part["embeddings"], labels, ["recall@1", "map@r"]) for part in parts]
    unit = [p["embeddings"] / np.linalg.norm(p["embeddings"], axis=1, keepdims=True) for p in parts]
    both = evaluate(np.hstack(unit), labels, ["recall@1", "map@r"])
    for name in ("recall@1", "map@r"):
        values = [one[name] for one in alone]
        assert found.separate[name] == pytest.approx(np.mean(values), abs=1e-12)
        assert found.spread[name] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
        assert found.concatenated[name] == pytest.approx(both[name], abs=1e-3)
    assert [member.recipe["selection"]["fold"] for member in found.members] == [1, 2] and found.dim == 16


def test_the_command_prints_tables_csv_and_json(published):
    runner = CliRunner()
    shown = runner.invoke(app, ["ensemble", str(published)])
    assert shown.exit_code == 0
    for words in ("norm_softmax", "separate", "concatenated", "recall@1", "r_precision", "map@r"):
        assert words in shown.stdout
    printed = runner.invoke(app, ["ensemble", str(published), "--format", "csv", "--metrics", "recall@1"])
    rows = list(csv.DictReader(io.StringIO(printed.stdout)))
    assert [row["kind"] for row in rows] == ["separate", "concatenated"]
    assert [row["dim"] for row in rows] == ["8", "16"]
    told = runner.invoke(app, ["ensemble", str(published), "--format", "json", "--metrics", "recall@1"])
    (item,) = json.loads(told.stdout)["ensembles"]
    assert item["separate"]["recall@1"] == float(rows[0]["recall@1"])


def test_what_is_no_share_is_not_shown_in_percent(published):
    shown = CliRunner().invoke(app, ["ensemble", str(published), "--metrics", "alignment,recall@1"])
    (found,) = ensembles([published], ["alignment", "recall@1"])
    joined = next(line for line in shown.stdout.splitlines() if "concatenated " in line)
    assert joined.split()[-2:] == [
        f"{found.concatenated['alignment']:.3f}",
        f"{100 * found.concatenated['recall@1']:.1f}",
    ]


def test_embeddings_that_are_not_those_of_the_record_are_refused(published, tmp_path):
    again = shutil.copytree(published, tmp_path / "again")
    first = ensembles([again], ["recall@1"])[0].folders[0]
    kept = dict(np.load(first / "embeddings.npz"))
    np.savez(first / "embeddings.npz", **{**kept, "embeddings": kept["embeddings"][:, :4]})
    with pytest.raises(DataError, match=r"of shape \(896, 4\), but the run's record says \(896, 8\)"):
        ensembles([again], ["recall@1"])


def test_one_fold_twice_with_other_numbers_is_refused(published, tmp_path):
    first = ensembles([published], ["recall@1"])[0].folders[0]
    again = shutil.copytree(first, tmp_path / first.name)
    assert len(ensembles([published, tmp_path], ["recall@1"])) == 1
    record = json.loads((again / "record.json").read_text())
    record["metrics"]["recall@1"] += 0.01
    (again / "record.json").write_text(json.dumps(record))
    with pytest.raises(ResultsError, match="is the same run as .* with other numbers"):
        ensembles([published, tmp_path], ["recall@1"])


def test_a_missing_fold_and_other_runs_are_named(published, tmp_path):
    first = ensembles([published], ["recall@1"])[0].folders[0]
    shutil.copytree(first, tmp_path / first.name)
    with pytest.raises(ResultsError, match=r"of its 2 folds, there is no run of fold 2"):
        ensembles([tmp_path], ["recall@1"])
    plain = {key: value for key, value in RECIPE.items() if key not in ("selection", "grid", "loss")}
    (run,) = read_recipe({**plain, "loss": None}, VOCABULARY)
    execute(run, tmp_path / "plain")
    with pytest.raises(ResultsError, match="no run was selected by validation"):
        ensembles([tmp_path / "plain"], ["recall@1"])
