"""``report`` and ``compare`` from the command line: what is refused, left out and written out."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from dml_bench.cli import app
from dml_bench.errors import DmlBenchError
from dml_bench.results.record import RunRecord

RECORD = RunRecord(
    recipe_name="made_up", recipe_id="0" * 12, protocol_id="p" * 12, seed=0, dataset="digits", loss="arcface",
    backbone="convnet", embedding_dim=8, status="ok", metrics={"recall@1": 0.7, "recall@2": 0.8},
)  # fmt: skip
UNLOADED = """
import sys
sys.argv = ["dml-bench", *sys.argv[1:]]
from dml_bench.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code
print("loaded:", [name for name in ("torch", "matplotlib") if name in sys.modules])
"""


def publish(folder, **changes):
    run = dataclasses.replace(RECORD, **changes)
    (folder / run.run_id).mkdir(parents=True)
    run.write(folder / run.run_id)
    return folder


@pytest.fixture
def runs(tmp_path):
    for number, loss in enumerate(("arcface", "softtriple")):
        for seed in (0, 1):
            publish(tmp_path / "runs", loss=loss, recipe_id=f"{number:012x}", seed=seed)
    return tmp_path / "runs"


def say(*words):
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("--by", "foo", "--by foo"), ("--metrics", "typo", "--metrics typo"), ("--format", "pdf", "--format pdf"),
     ("--format", "", "--format: names nothing")],
)  # fmt: skip
def test_mistakes_are_refused_before_anything_is_printed(runs, tmp_path, option, value, said):
    done = CliRunner().invoke(app, ["report", str(runs), "-o", str(tmp_path / "out"), option, value])
    assert isinstance(done.exception, DmlBenchError) and str(done.exception).startswith(said)
    assert done.output == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "loaded"), [([], "['matplotlib']"), (["--no-galleries"], "['matplotlib']"), (["--no-pictures"], "[]")]
)
def test_torch_is_loaded_only_where_a_run_has_a_gallery(runs, tmp_path, words, loaded):
    command = [sys.executable, "-c", UNLOADED, "report", str(runs), "-o", str(tmp_path / "out"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"loaded: {loaded}" in done.stdout
    assert ("No galleries: no run has its embeddings" in done.stdout) == (not words)
    assert bool(list((tmp_path / "out").glob("*.png"))) == (words != ["--no-pictures"])


def test_control_characters_in_names_are_written_out(tmp_path):
    for number, loss in enumerate(("a\x1b[31mb", "c\nd")):
        for seed in (0, 1):
            publish(tmp_path / "runs", loss=loss, recipe_id=f"{number:012x}", seed=seed)
    ids = [f"{tmp_path / 'runs'}:{number:012x}" for number in (0, 1)]
    text = say("compare", *ids) + say("diff", *ids) + say("audit", tmp_path / "runs", "--no-data")
    assert "\x1b" not in text
    assert r"A: a\x1b[31mb [" in text and r"B: c\x0ad [" in text
    with pytest.raises(DmlBenchError, match=r"it names .*a\\x1b"):
        say("compare", tmp_path / "runs", ids[0])


@pytest.mark.parametrize("command", ["compare", "diff"])
def test_a_loss_names_its_row_if_there_is_one(runs, command):
    text = say(command, f"{runs}:arcface", f"{runs}:softtriple")
    assert "arcface" in text and "softtriple" in text
    with pytest.raises(DmlBenchError, match=r"no run of a loss or recipe 'arcfac' \(did you mean 'arcface'\?\)"):
        say(command, f"{runs}:arcfac", f"{runs}:softtriple")
    publish(runs, options={"margin": 0.2}, recipe_id="a" * 12)
    with pytest.raises(DmlBenchError, match=r"it names 0{12} \(arcface, digits\), a{12} \(arcface, digits, margin=0.2"):
        say(command, f"{runs}:arcface", f"{runs}:softtriple")


def test_a_recipe_of_several_losses_is_asked_by_loss(tmp_path):
    (tmp_path / "grid.yaml").write_text("dataset: digits\ngrid: {loss: [arcface, softtriple]}\n")
    text = say("diff", f"{tmp_path / 'grid.yaml'}:arcface", f"{tmp_path / 'grid.yaml'}:softtriple")
    assert "loss.name" in text
