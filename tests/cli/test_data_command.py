"""``dml-bench data``: what it says of a whole, a damaged and an incomplete copy."""

import io
import re
import threading
import zipfile
from pathlib import Path
from unittest import mock

import pytest
from PIL import Image
from typer.testing import CliRunner

from dml_bench.cli.app import app
from dml_bench.cli.data import data_app
from dml_bench.data import inspect


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
    assert [line.split(":")[1].strip() for line in output.splitlines()] == [f"{mine}/class 1/{i}.jpg" for i in (2, 3)]


def test_verify_reads_with_threads_and_names_every_damaged_member_in_order(tmp_path, mine):
    files = sorted(path for path in mine.rglob("*.jpg") if not path.name.startswith("._"))
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in files:
            archive.writestr(path.relative_to(mine).as_posix(), path.read_bytes())
    data = (tmp_path / "set.zip").read_bytes()
    for name in ("0.jpg", "5.jpg", "7.jpg"):
        content = next(path for path in files if path.name == name).read_bytes()
        data = data.replace(content, content[:-9] + bytes(9))
    (tmp_path / "set.zip").write_bytes(data)
    threads = set()
    read = inspect.read_photo

    def traced(*arguments, **options):
        threads.add(threading.current_thread())
        return read(*arguments, **options)

    with mock.patch.object(inspect, "read_photo", traced):
        output = call("verify", "folder", "--set", f"path={tmp_path / 'set.zip'}", expect=1)
    assert threading.main_thread() not in threads
    assert re.findall(r"class \d/(\d)\.jpg: .*Bad CRC", output) == ["0", "5", "7"]


def test_verify_names_every_box_that_holds_nothing(mine):
    paths = sorted(path.relative_to(mine).as_posix() for path in mine.rglob("?.jpg"))
    rows = "".join(f"{path},{path[:7]},{200 * (i in (2, 6))},0,300,30\n" for i, path in enumerate(paths))
    (mine / "my.csv").write_text(f"path,label,left,top,right,bottom\n{rows}")
    output = call("verify", "table", "--set", f"path={mine / 'my.csv'}", "--set", "boxes=true", expect=1)
    assert re.findall(r"damaged: .*/(\d)\.jpg: its box .* holds no pixel", output) == ["2", "6"]


def test_verify_names_every_damaged_idx_file(tmp_path):
    names = [f"{half}-{kind}-ubyte" for half in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    for name in names:
        (tmp_path / name).write_bytes(b"404 Not Found")
    output = call("verify", "mnist", "--data-root", tmp_path, expect=1)
    assert [Path(line.split(":")[0]).name for line in output.splitlines()] == names


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
