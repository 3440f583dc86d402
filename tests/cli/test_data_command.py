"""``dml-bench data``: what it says of a whole, a damaged and an incomplete copy."""

import io
import re

import pytest
from PIL import Image
from typer.testing import CliRunner

from dml_bench.cli.app import app
from dml_bench.cli.data import data_app


@pytest.fixture
def mine(tmp_path):
    """Eight photographs in four classes, and a stray file."""
    for i in range(8):
        data = io.BytesIO()
        Image.new("RGB", (40 + i, 30), (30 * i, 0, 90)).save(data, format="JPEG")
        path = tmp_path / "mine" / f"class {i // 2}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.getvalue())
    (tmp_path / "mine" / "class 0" / "._0.jpg").write_bytes(b"")
    return tmp_path / "mine"


def call(*arguments, expect=0):
    result = CliRunner().invoke(data_app, [str(argument) for argument in arguments])
    assert result.exit_code == expect, (result.output, result.exception)
    return result.output


def test_the_group_is_part_of_the_command():
    assert "data" in {group.name for group in app.registered_groups}


def test_verify_names_what_is_damaged(mine):
    assert call("verify", "folder", "--set", f"path={mine}") == "folder: ok\n"
    whole = (mine / "class 1" / "2.jpg").read_bytes()
    (mine / "class 1" / "2.jpg").write_bytes(whole[: len(whole) // 2])
    (mine / "class 1" / "3.jpg").write_bytes(b"404 Not Found")
    output = call("verify", "folder", "--set", f"path={mine}", expect=1)
    assert [line.split(":")[1].strip() for line in output.splitlines()] == ["class 1/2.jpg", "class 1/3.jpg"]


def test_verify_names_what_is_missing_and_surplus(tmp_path, mine):
    top = tmp_path / "CUB_200_2011"
    top.mkdir()
    mine.rename(top / "images")
    paths = [f"class {i // 2}/{i}.jpg" for i in range(8)]
    (top / "images.txt").write_text("".join(f"{i} {path}\n" for i, path in enumerate(paths)))
    (top / "image_class_labels.txt").write_text("".join(f"{i} {i // 2}\n" for i in range(8)))
    (top / "classes.txt").write_text("".join(f"{c} class {c}\n" for c in range(4)))
    (top / "images" / paths[5]).rename(top / "images" / "class 2" / "new.jpg")
    output = call("verify", "cub200", "--data-root", tmp_path, expect=1)
    assert f"missing: {paths[5]}" in output
    assert "surplus: images/class 2/new.jpg" in output


def test_stats_counts_and_draws(mine, tmp_path):
    output = call("stats", "folder", "--set", f"path={mine}", "-o", tmp_path / "sheet.png")
    assert "width 40 to 47 pixels" in output
    assert "1 stray files" in output
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (2 * 68 + 4, 4 * 68 + 4)


def test_prepare_says_size_and_digest(mine):
    output = call("prepare", "folder", "--set", f"path={mine}", "--set", "image_size=16")
    assert "8 images, 0.0 MB decoded" in output
    assert "digest" in output


def test_list_tells_what_is_here(tmp_path):
    output = call("list", "--data-root", tmp_path)
    assert "cub200         - " in output


def test_fetch_says_what_it_cannot(tmp_path):
    result = CliRunner().invoke(data_app, ["fetch", "inshop", "--data-root", str(tmp_path)])
    assert re.search(
        r"get Img/img\.zip and .* from http://mmlab.* by hand, and put it into .*inshop", str(result.exception)
    )
    assert "By hand: 101_ObjectCategories.tar.gz from http" in call("info", "caltech101")
