from __future__ import annotations

import dataclasses

import pytest
from typer.testing import CliRunner

from dml_bench.cli import app
from dml_bench.errors import DmlBenchError, ResultsError
from dml_bench.reports.plots import NEEDS
from dml_bench.results.record import RunRecord

RECORD = RunRecord(
    recipe_name="made_up", recipe_id="0" * 12, protocol_id="p" * 12, seed=0, dataset="digits", loss="arcface",
    backbone="convnet", embedding_dim=8, status="ok", metrics={"recall@1": 0.7, "recall@2": 0.8},
)  # fmt: skip


@pytest.fixture
def runs(tmp_path):
    for number, dataset in enumerate(("digits", "glyphs")):
        run = dataclasses.replace(RECORD, recipe_id=f"{number:012x}", dataset=dataset)
        folder = tmp_path / "runs" / run.run_id
        folder.mkdir(parents=True)
        run.write(folder)
    return tmp_path / "runs"


def plot(*words: object) -> str:
    done = CliRunner().invoke(app, ["plot", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output.strip()


def test_one_picture_is_written_and_named(runs, tmp_path):
    out = tmp_path / "new" / "dots.SVG"
    assert plot("dots", runs, "-o", out, "--where", "dataset=glyphs").replace("\n", "") == str(out)
    assert "glyphs, protocol" in out.read_text(encoding="utf-8")
    assert [path.name for path in out.parent.iterdir()] == ["dots.SVG"]


def test_nothing_is_written_if_it_cannot_be_drawn(runs, tmp_path):
    with pytest.raises(ResultsError, match="'dots' shows one data set under one protocol"):
        plot("dots", runs, "-o", tmp_path / "x.png")
    with pytest.raises(DmlBenchError, match="must end in .png, .svg, .pdf"):
        plot("dots", runs, "-o", tmp_path / "x", "--where", "dataset=glyphs")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_place_that_cannot_be_written_is_named(runs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="file: the picture cannot be written"):
        plot("recall", runs, "-o", tmp_path / "file" / "x.png", "--where", "dataset=glyphs")


def test_help_names_every_kind():
    words = CliRunner().invoke(app, ["plot", "--help"], env={"COLUMNS": "200"}).output
    assert [kind for kind in NEEDS if kind not in words] == []
