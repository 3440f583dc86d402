"""The commands of a leaderboard, from runs to a page, and a row run again."""

from __future__ import annotations

import csv
import re
import shutil

import pytest
from typer.testing import CliRunner

from dml_bench.cli.app import app
from dml_bench.leaderboard.build import NOTES, build

pytestmark = pytest.mark.e2e
CALL = CliRunner()


def call(*words):
    done = CALL.invoke(app, [str(word) for word in words], catch_exceptions=False)
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture(scope="module")
def built(runs, tmp_path_factory):
    """A leaderboard of ``runs`` made by the commands, and what they said."""
    folder = tmp_path_factory.mktemp("board") / "results"
    said = [call("leaderboard", "add", runs, "--to", folder)]
    (folder / NOTES).write_text("## Not shown\n\nMuch.\n", encoding="utf-8")
    said += [call("leaderboard", "verify", folder), call("leaderboard", "build", folder)]
    return folder, said


def test_three_commands_make_the_page(built):
    folder, said = built
    many = len(list(folder.glob("records/digits/*/record.json")))
    assert said[:2] == [(0, f"{many} runs added to {folder / 'records'}"), (0, f"{many} runs: all is well")]
    assert said[2][0] == 0 and said[2][1].endswith("files written")
    text = (folder / "README.md").read_text("utf-8")
    assert "## Not shown\n\nMuch.\n" in text
    for loss in ("norm_softmax", "contrastive", "softtriple", "raw_pixels", "untrained"):
        assert f"\n| {loss} |" in text
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert {"records", "leaderboard.csv", "leaderboard.html"} < set(links)
    assert [link for link in links if not (folder / link).exists()] == []
    rows = list(csv.DictReader((folder / "leaderboard.csv").read_text("utf-8").splitlines()))
    assert {row["loss"] for row in rows} == {"norm_softmax", "contrastive", "softtriple", "raw_pixels", "untrained"}
    assert "<table" in (folder / "leaderboard.html").read_text("utf-8")


def test_the_same_records_make_the_same_files(built, tmp_path):
    folder, _ = built
    shutil.copytree(folder, tmp_path / "again")
    build(tmp_path / "again")
    for path in (p for p in folder.rglob("*") if p.is_file()):
        assert (tmp_path / "again" / path.relative_to(folder)).read_bytes() == path.read_bytes(), path


def test_a_pictures_file_that_is_no_longer_drawn_goes_and_others_stay(built):
    folder, _ = built
    (folder / "pictures/dots-gone.svg").write_text("old")
    (folder / "pictures/mine.txt").write_text("mine")
    build(folder)
    assert not (folder / "pictures/dots-gone.svg").exists()
    assert (folder / "pictures/mine.txt").exists()


def test_what_is_not_verified_is_not_built(built, tmp_path):
    folder, _ = built
    shutil.copytree(folder, tmp_path / "bad")
    record = next((tmp_path / "bad/records").rglob("record.json"))
    (record.parent / "weights.pt").write_bytes(b"weights")
    before = (tmp_path / "bad/README.md").read_bytes()
    (tmp_path / "bad/README.md").write_bytes(before + b"kept")
    code, said = call("leaderboard", "verify", tmp_path / "bad")
    assert code == 1 and "weights.pt" in said and said.endswith("runs: 1 problems")
    assert CALL.invoke(app, ["leaderboard", "build", str(tmp_path / "bad")]).exit_code == 1
    assert (tmp_path / "bad/README.md").read_bytes() == before + b"kept"


def test_a_row_run_again_matches_bit_for_bit(built, tmp_path):
    folder, _ = built
    text = (folder / "README.md").read_text("utf-8")
    [row] = set(re.findall(r"\n\| norm_softmax \|.*?\[([0-9a-f]{12})\]", text))
    code, said = call("reproduce", row, "--results", folder, "--seeds", 1, "--out", tmp_path / "again")
    assert (code, said.split(f"{row}-s0: ")[-1]) == (0, "match, bit for bit")
    again = CALL.invoke(app, ["reproduce", row, "--results", str(folder), "--out", str(tmp_path / "again")])
    assert again.exit_code == 1 and "is there already" in str(again.exception)
