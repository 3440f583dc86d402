"""``dml-bench data cache``: what it lists, finds damaged and clears."""

import io
import re
import tarfile

import numpy as np
import pytest
from typer.testing import CliRunner

from dml_bench.cli.data import data_app
from dml_bench.data.cache import cache_folder, cached_images
from dml_bench.data.sources import open_source


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DML_BENCH_CACHE", str(tmp_path / "cache"))
    return cache_folder()


def call(*arguments, expect=0):
    result = CliRunner().invoke(data_app, ["cache", *arguments])
    assert result.exit_code == expect, (result.output, result.exception)
    return result.output or str(result.exception)


def entry(name, megabytes):
    cached_images({"dataset": name}, lambda: {"images": np.zeros((megabytes, 1000, 1000), dtype=np.uint8)})


def test_an_empty_cache():
    assert call("list") == "0 entries, 0.0 MB\n"
    assert call("clear") == "0.0 MB freed\n"


def test_entries_are_listed_the_largest_first_and_cleared_by_name(folder):
    entry("small", 1)
    entry("large", 3)
    first, second, total = call("list").splitlines()
    assert re.fullmatch(r"\w{32} +3\.0 MB  \d{4}-\d\d-\d\d \d\d:\d\d  large", first)
    assert second.endswith("small") and total == "2 entries, 4.0 MB"
    assert call("clear", first.split()[0]) == "3.0 MB freed\n"
    assert [line.rsplit(" ", 1)[-1] for line in call("list").splitlines()] == ["small", "MB"]
    assert "no cache entry named nonsense" in call("clear", "nonsense", expect=1)
    assert call("clear") == "1.0 MB freed\n"
    assert not list(folder.glob("*"))


def test_check_names_what_is_damaged(folder):
    entry("whole", 1)
    entry("damaged", 2)
    (path,) = (path for path in folder.glob("*.npy") if path.stat().st_size > 1_500_000)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert "DAMAGED" not in call("list")
    output = call("list", "--check", expect=1)
    assert [line.split()[-2:] for line in output.splitlines() if "DAMAGED" in line] == [["damaged", "DAMAGED"]]


def test_a_decompressed_tar_file_is_listed_and_cleared(tmp_path):
    path = tmp_path / "set.tgz"
    info = tarfile.TarInfo("1.jpg")
    info.size = 1 << 20
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(info, io.BytesIO(bytes(1 << 20)))
    open_source(path)
    line, total = call("list", "--check").splitlines()
    assert line.endswith("tar file, decompressed") and total == "1 entries, 1.1 MB"
    assert call("clear") == "1.1 MB freed\n"
    assert list(open_source(path).read(["1.jpg"])) == [bytes(1 << 20)]


def test_what_a_killed_process_left_of_a_tar_file_is_listed(folder):
    folder.mkdir(parents=True)
    (folder / ".0123456789abcdef0123456789abcdef.77.part").write_bytes(bytes(2_000_000))
    assert "2.0 MB" in call("list")
    assert call("clear") == "2.0 MB freed\n"
