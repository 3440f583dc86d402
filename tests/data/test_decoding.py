import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from dml_bench.data.cache_entries import cache_clear, cache_list
from dml_bench.data.dataset import DATASETS


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setenv("DML_BENCH_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for label in "abcd":
        for i in range(5):
            path = tmp_path / "my photos" / label / f"{i} ü.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)).save(path)
    return tmp_path / "my photos"


def build(path):
    return DATASETS.build("folder", None, path=str(path), image_size=16, resize=18)


def test_cached_or_decoded_for_each_batch_the_numbers_are_the_same(photos, monkeypatch):
    cached = build(photos)
    monkeypatch.setenv("DML_BENCH_CACHE", "off")
    uncached = build(photos)
    rows = np.array([7, 0, 3])
    assert cached.digest == uncached.digest
    assert not isinstance(uncached.train.images, np.ndarray)
    np.testing.assert_array_equal(cached.train.images[rows], uncached.train.images[rows])
    monkeypatch.undo()
    for one, other in zip(cached.train.photos(19).take(rows), uncached.train.photos(19).take(rows), strict=True):
        np.testing.assert_array_equal(one, other)


def test_entries_are_listed_checked_and_cleared(photos):
    build(photos).train.photos(19)
    entries = cache_list()
    assert len(entries) == 2 and all(entry.intact and entry.size > 1000 for entry in entries)
    file = next(path for path in entries[0].files if path.suffix == ".npy")
    stat, data = file.stat(), bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not cache_list()[0].intact
    assert cache_clear() == sum(entry.size for entry in entries)
    assert cache_list() == []


SLOW = """
import sys, time
import numpy as np
from dml_bench.data.cache import cached_rows

def rows():
    for i in range(40):
        print(i, flush=True)
        time.sleep(0.05)
        yield {"images": np.full((1, 4, 4, 1), i, dtype=np.uint8)}

print("sum", int(cached_rows({"dataset": "slow"}, rows)["images"].sum()))
"""


def test_a_killed_builder_leaves_nothing_and_two_at_once_build_once(photos, tmp_path):
    start = [sys.executable, "-c", SLOW]
    killed = subprocess.Popen(start, stdout=subprocess.PIPE, text=True)
    for _ in range(5):
        killed.stdout.readline()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    both = [subprocess.Popen(start, stdout=subprocess.PIPE, text=True)]
    time.sleep(0.3)
    both.append(subprocess.Popen(start, stdout=subprocess.PIPE, text=True))
    said = [process.communicate(timeout=60)[0].splitlines() for process in both]
    assert {lines[-1] for lines in said} == {f"sum {16 * sum(range(40))}"}
    assert sorted(len(lines) for lines in said) == [1, 41]  # one built, the other waited
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_whole_photos_are_reduced_as_pillow_does_to_a_level(photos):
    train = build(photos).train
    for name, whole in zip(sorted(photos.glob("[ab]/*.png")), train.photos(19).take(np.arange(10)), strict=True):
        with Image.open(name) as image:
            size = (int(19 * image.width / image.height), 19)
            theirs = np.asarray(image.resize(size, Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(whole - theirs).max() <= 1
