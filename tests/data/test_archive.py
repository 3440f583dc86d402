import io

import numpy as np
import pytest
from PIL import Image

from dml_bench.data.archive import decode_grey, find
from dml_bench.errors import DataError


def png(value=0, size=(4, 3), mode="L"):
    data = io.BytesIO()
    Image.new(mode, size, value).save(data, format="PNG")
    return data.getvalue()


def test_find_prefers_the_zip_and_the_first_folder(tmp_path):
    (tmp_path / "x" / "pack").mkdir(parents=True)
    assert find(tmp_path, ("y", "x", "."), "pack") == tmp_path / "x" / "pack"
    (tmp_path / "x" / "pack.zip").touch()
    (tmp_path / "pack.zip").touch()
    assert find(tmp_path, ("y", "x", "."), "pack") == tmp_path / "x" / "pack.zip"
    assert find(tmp_path / "x", ("y", "x", "."), "pack") == tmp_path / "x" / "pack.zip"


def test_find_takes_the_root_from_the_environment(tmp_path, monkeypatch):
    (tmp_path / "pack.zip").touch()
    monkeypatch.setenv("DML_BENCH_DATA", str(tmp_path))
    assert find(None, (".",), "pack") == tmp_path / "pack.zip"


def test_what_is_not_found_is_said_with_where_and_how(tmp_path, monkeypatch):
    monkeypatch.delenv("DML_BENCH_DATA", raising=False)
    how = "data_root in the recipe, by --data-root, or by the environment variable DML_BENCH_DATA"
    with pytest.raises(DataError, match=rf"pack\.zip .* is needed, but no folder .*{how}"):
        find(None, (".",), "pack")
    with pytest.raises(DataError, match=rf"pack\.zip .* none of: {tmp_path}/x, {tmp_path}\. .*{how}"):
        find(tmp_path, ("x", "."), "pack")
    with pytest.raises(DataError, match=rf"{tmp_path}/gone: there is no such folder.*{how}"):
        find(tmp_path / "gone", (".",), "pack")


@pytest.mark.parametrize(("mode", "value", "grey"), [("1", 1, 255), ("L", 7, 7), ("RGB", (9, 9, 9), 9)])
def test_decode_gives_grey_levels(mode, value, grey):
    decoded = np.asarray(decode_grey(png(value, mode=mode), "here.png", (4, 3)))
    assert decoded.dtype == np.uint8
    assert decoded.tolist() == [[grey] * 4] * 3


@pytest.mark.parametrize("length", [0, 10, 30, 100, 1000])
def test_truncated_images_are_refused_by_name(length):
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50), dtype=np.uint8)).save(data, format="PNG")
    with pytest.raises(DataError, match=r"a\.zip/b\.png: not a readable PNG image"):
        decode_grey(data.getvalue()[:length], "a.zip/b.png", (50, 50))


def test_another_format_is_refused_by_name():
    data = io.BytesIO()
    Image.new("L", (4, 3)).save(data, format="BMP")
    with pytest.raises(DataError, match=r"b\.png: not a readable PNG image"):
        decode_grey(data.getvalue(), "b.png", (4, 3))


def test_another_size_is_refused_with_both_sizes():
    with pytest.raises(DataError, match=r"b\.png: must be 105 x 105 pixels, not 4 x 3"):
        decode_grey(png(), "b.png", (105, 105))
