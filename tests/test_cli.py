"""The command line, from recipe to report."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import pytest

pytestmark = pytest.mark.e2e

RECIPE = """
name: small
dataset: digits
training:
  epochs: 2
  sampler: {name: pxk, classes_per_batch: 5, images_per_class: 8}
evaluation: {restarts: 2}
seeds: [0, 1]
grid:
  loss:
    - norm_softmax
    - {name: softtriple, centers_per_class: 3}
    - triplet_semihard
"""


def dml_bench(*words, cwd, **options):
    command = [sys.executable, "-m", "dml_bench", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which the recipe has been run."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.yaml").write_text(RECIPE)
    done = dml_bench("run", "small.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_run_prints_the_table_and_writes_the_report(finished):
    folder, done = finished
    for word in ("norm_softmax", "softtriple", "triplet_semihard", "raw_pixels", "untrained", "recall@1", "nmi"):
        assert word in done.stdout
    report = folder / "runs" / "small" / "report"
    names = {path.name for path in report.iterdir()}
    pictures = {"recall.png", "dots.svg", "centers.png", "gallery.png"}
    assert {"results.csv", "summary.csv", "summary.md", *pictures} <= names
    with (report / "summary.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0])[:7] == ["dataset", "protocol_id", "loss", "options", "backbone", "embedding_dim", "seeds"]
    assert list(rows[0])[-3:] == ["train_seconds_mean", "status", "selection"]
    assert {row["loss"] for row in rows} == {
        "norm_softmax",
        "softtriple",
        "triplet_semihard",
        "raw_pixels",
        "untrained",
    }
    assert all(0 < float(row["recall@1_mean"]) <= 1 and row["status"] == "ok" for row in rows)


def test_each_run_is_a_whole_folder(finished):
    folder, _ = finished
    runs = [path for path in (folder / "runs" / "small").glob("[!.]*") if path.name != "report"]
    assert len(runs) == 3 * 2 + 2 + 1
    for run in runs:
        files = {"recipe.yaml", "record.json", "curve.csv", "log.txt", "embeddings.npz", "per_query.npz"}
        files |= {"checkpoint.pt"}
        assert {path.name for path in run.iterdir()} == files
        record = json.loads((run / "record.json").read_text())
        assert {"torch", "numpy", "faiss-cpu"} <= set(record["environment"]["packages"])
        assert len(record["data"]["digest"]) == 64


def test_a_second_run_skips_what_is_done(finished):
    folder, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("record.json")}
    again = dml_bench("run", "small.yaml", cwd=folder)
    assert again.returncode == 0
    assert "9 runs are done already and skipped" in again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("record.json")}


def test_a_published_recipe_repeats_its_run(finished, tmp_path):
    folder, _ = finished
    run = next((folder / "runs" / "small").glob("*-s1"))
    done = dml_bench("run", run / "recipe.yaml", "--out", tmp_path / "again", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((where / "record.json").read_text()) for where in (run, tmp_path / "again" / run.name))
    assert second["metrics"] == first["metrics"]
    assert (run / "embeddings.npz").read_bytes() == (tmp_path / "again" / run.name / "embeddings.npz").read_bytes()


def test_report_alone_gives_the_same_tables(finished, tmp_path):
    folder, _ = finished
    done = dml_bench("report", folder / "runs", "-o", tmp_path / "report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("summary.csv", "summary.md"):
        assert (tmp_path / "report" / name).read_bytes() == (folder / "runs/small/report" / name).read_bytes()


def test_dry_run_does_nothing(tmp_path):
    (tmp_path / "small.yaml").write_text(RECIPE)
    done = dml_bench("run", "small.yaml", "--dry-run", cwd=tmp_path)
    assert done.stdout.count("would run: runs/small/") == 9
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_stopped_grid_goes_on(number, code, tmp_path):
    (tmp_path / "small.yaml").write_text(RECIPE.replace("epochs: 2", "epochs: 40"))
    command = [sys.executable, "-m", "dml_bench", "run", "small.yaml"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # shells and nohup ignore some
    )
    runs = tmp_path / "runs" / "small"
    deadline = time.monotonic() + 120
    while not list(runs.glob(".work-*")) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert "goes on from here" in out
    assert list(runs.glob(".lease-*")) == []  # what was begun waits in .work-*
    if number == signal.SIGTERM:
        again = dml_bench("run", "small.yaml", "--set", "training.epochs=1", cwd=tmp_path)
        assert again.returncode == 0, again.stderr


def test_a_diverged_run_is_recorded_and_the_others_go_on(tmp_path):
    recipe = RECIPE.replace("seeds: [0, 1]", "seeds: [0]") + "  training.optimizer.lr: [1.0e+30, 0.001]\n"
    (tmp_path / "small.yaml").write_text(recipe)
    done = dml_bench("run", "small.yaml", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    with (tmp_path / "runs/small/report/summary.csv").open() as stream:
        rows = {(row["loss"], row["options"]): row for row in csv.DictReader(stream)}
    bad = [row for (loss, options), row in rows.items() if "1e+30" in options]
    assert len(bad) == 3
    assert all(row["status"] == "failed" and row["seeds"] == "0 of 1 ok" and not row["nmi_mean"] for row in bad)
    assert sum(row["status"] == "ok" for row in rows.values()) == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "nowhere.yaml"], "nowhere.yaml: cannot read the recipe"),
        (["run", "small.yaml", "--device", "cuda:77"], "--device cuda:77"),
        (["run", "small.yaml", "--set", "loss.scal=1"], "'loss' is an axis of the grid"),
        (["run", "small.yaml", "--set", "dataset=omniglot", "--data-root", "none"], "none"),
        (["run", "small.yaml", "--out", "small.yaml"], "small.yaml: cannot write here"),
        (["report", "none"], "none: no such folder of runs"),
        (["info", "losses", "softripple"], "did you mean 'softtriple'"),
        (["info", "loses", "softtriple"], "did you mean 'losses'"),
    ],
)
def test_mistakes_end_with_2_and_one_clear_message(words, said, tmp_path):
    (tmp_path / "small.yaml").write_text(RECIPE)
    done = dml_bench(*words, cwd=tmp_path, env={**os.environ, "COLUMNS": "80"})
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_text_file_named_zip_is_named(tmp_path):
    (tmp_path / "small.yaml").write_text(RECIPE)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "images_background.zip").write_text("not a zip")
    with zipfile.ZipFile(tmp_path / "data" / "images_evaluation.zip", "w"):
        pass
    done = dml_bench("run", "small.yaml", "--set", "dataset=omniglot", "--data-root", "data", cwd=tmp_path)
    assert done.returncode == 2
    assert "images_background.zip" in done.stderr


@pytest.mark.parametrize("kind", ["losses", "datasets", "backbones", "metrics", "samplers"])
def test_list_as_json_names_everything_with_a_summary(kind, tmp_path):
    entries = json.loads(dml_bench("list", kind, "--json", cwd=tmp_path).stdout)
    assert entries
    assert all(entry["name"] and entry["summary"].endswith(".") for entry in entries)


UNLOADED = """
import sys
sys.argv = ['dml-bench', *{words!r}]
from dml_bench.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code
assert not {modules!r} & set(sys.modules), {modules!r} & set(sys.modules)
"""


def run_without(modules, words, cwd):
    """Run the command in a fresh interpreter and fail if it loads one of ``modules``."""
    code = UNLOADED.format(words=words, modules=modules)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, timeout=60)


@pytest.mark.parametrize(
    "words",
    [["--help"], *([word, "--help"] for word in ("run", "report", "plot", "status", "list"))],
)
def test_help_shows_an_example_and_loads_no_torch(words, tmp_path):
    done = run_without({"torch", "faiss", "pandas"}, words, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Example: dml-bench" in done.stdout


def test_report_loads_no_torch(finished, tmp_path):
    folder, _ = finished
    words = ["report", str(folder / "runs"), "-o", "out", "--no-galleries"]  # which would load the data
    done = run_without({"torch", "faiss"}, words, tmp_path)
    assert done.returncode == 0, done.stderr


def test_status_loads_no_torch(finished, tmp_path):
    folder, _ = finished
    done = run_without({"torch", "faiss", "sklearn", "pandas"}, ["status", str(folder / "runs/small")], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "9 runs, 9 done" in done.stdout
    assert done.stdout.count("recall@1 ") == 9
