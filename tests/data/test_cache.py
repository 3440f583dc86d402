import json
import subprocess
import sys

import numpy as np
import pytest

from dml_bench.data.cache import cache_folder, cached_images

KEY = {"dataset": "some", "version": 1}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DML_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Build:
    """Makes the same arrays each time, and counts the times."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        images = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), dtype=np.uint8)
        return {"images": images, "codes": np.arange(20)}


def equal(arrays):
    expected = Build()()
    return arrays.keys() == expected.keys() and all(np.array_equal(arrays[k], expected[k]) for k in expected)


def test_built_once_then_read_as_a_read_only_map(folder):
    build = Build()
    first, second = cached_images(KEY, build), cached_images(dict(reversed(KEY.items())), build)
    assert build.calls == 1
    assert equal(first)
    assert equal(second)
    assert isinstance(second["images"], np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        second["images"][0] = 0
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_another_key_is_another_entry():
    build = Build()
    cached_images(KEY, build)
    cached_images({**KEY, "version": 2}, build)
    assert build.calls == 2


def damage_cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def damage_flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def damage_empty(path):
    path.write_bytes(b"")


def damage_remove(path):
    path.unlink()


@pytest.mark.parametrize("damage", [damage_cut, damage_flip, damage_empty, damage_remove])
@pytest.mark.parametrize("pattern", ["*.npy", "*.json"])
def test_a_damaged_entry_is_built_again(folder, damage, pattern):
    build = Build()
    cached_images(KEY, build)
    for path in folder.glob(pattern):
        damage(path)
    assert equal(cached_images(KEY, build))
    assert build.calls == 2
    assert equal(cached_images(KEY, build))
    assert build.calls == 2


@pytest.mark.parametrize(
    "text", ["[]", '{"arrays": []}', '{"arrays": {"images": 3}}', '{"arrays": {"images": "../x"}}']
)
def test_an_index_of_another_shape_is_built_again(folder, text):
    cached_images(KEY, Build())
    (index,) = folder.glob("*.json")
    index.write_text(text)
    assert equal(cached_images(KEY, Build()))
    assert json.loads(index.read_text())["key"] == KEY


def test_a_failing_build_leaves_nothing_behind(folder):
    def fail():
        raise OSError("the source is gone")

    with pytest.raises(OSError, match="the source is gone"):
        cached_images(KEY, fail)
    assert not folder.exists()


def test_dying_while_writing_leaves_no_entry(folder, monkeypatch):
    def die(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", die)
    with pytest.raises(KeyboardInterrupt):
        cached_images(KEY, Build())
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_changes_no_number(folder):
    folder.write_text("a file where the folder should be")
    build = Build()
    arrays = cached_images(KEY, build)
    assert equal(arrays)
    assert not arrays["images"].flags.writeable
    assert equal(cached_images(KEY, build))
    assert build.calls == 2


def test_a_full_disk_changes_no_number(folder, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert equal(cached_images(KEY, Build()))
    assert list(folder.iterdir()) == []


def test_the_folder_follows_the_environment(tmp_path, monkeypatch):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("DML_BENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "dml_bench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "dml_bench"


SLOW = """
import time
import numpy as np
from dml_bench.data.cache import cached_images

def build():
    images = np.empty((50, 8, 8, 1), dtype=np.uint8)
    for i in range(50):
        images[i] = i
        time.sleep(0.01)
    return {"images": images}

print(int(cached_images({"dataset": "some", "version": 1}, build)["images"].sum()))
"""


def test_two_processes_at_once_get_the_same_images(folder):
    command = [sys.executable, "-c", SLOW]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    sums = [int(process.communicate(timeout=120)[0]) for process in both]
    assert sums == [sum(range(50)) * 64] * 2
    assert len(list(folder.iterdir())) == 2  # one array, one index, nothing hidden
