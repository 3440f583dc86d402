import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from dml_bench.data.archive import decode_grey, find, open_images
from dml_bench.errors import DataError


def png(value=0, size=(4, 3), mode="L"):
    data = io.BytesIO()
    Image.new(mode, size, value).save(data, format="PNG")
    return data.getvalue()


MEMBERS = {"b/2.png": png(2), "a/1.PNG": png(1), "a/notes.txt": b"", "a/._1.png": b"", "__MACOSX/a/1.png": b""}


@pytest.fixture
def packed(tmp_path):
    with zipfile.ZipFile(tmp_path / "pack.zip", "w") as archive:
        for name, data in MEMBERS.items():
            archive.writestr(name, data)
    return tmp_path / "pack.zip"


@pytest.fixture
def unpacked(tmp_path):
    for name, data in MEMBERS.items():
        path = tmp_path / "pack" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "pack"


@pytest.mark.parametrize("kind", ["packed", "unpacked"])
def test_images_come_sorted_and_strays_are_passed_over(kind, request):
    archive = open_images(request.getfixturevalue(kind))
    assert archive.members == ("a/1.PNG", "b/2.png")
    assert list(archive.read()) == [("a/1.PNG", png(1)), ("b/2.png", png(2))]


@pytest.mark.parametrize("kind", ["packed", "unpacked"])
def test_the_fingerprint_follows_the_content_and_not_the_place(kind, request, tmp_path):
    path = request.getfixturevalue(kind)
    before = open_images(path).fingerprint
    moved = path.rename(tmp_path / f"moved{path.suffix}")
    assert open_images(moved).fingerprint == before
    if moved.is_dir():
        (moved / "b" / "2.png").write_bytes(png(3, size=(9, 9)))
    else:
        with zipfile.ZipFile(moved, "a") as archive:
            archive.writestr("c/3.png", png(3))
    assert open_images(moved).fingerprint != before


@pytest.mark.parametrize("name", ["/etc/1.png", "../1.png", "a/../../1.png"])
def test_a_member_that_leads_out_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(name, png())
    with pytest.raises(DataError, match=r"bad\.zip.*leads out"):
        open_images(tmp_path / "bad.zip")


def test_a_text_file_named_zip_is_refused_by_name(tmp_path):
    (tmp_path / "text.zip").write_text("404 Not Found")
    with pytest.raises(DataError, match=r"text\.zip: cannot be read: File is not a zip file"):
        open_images(tmp_path / "text.zip")


def test_a_truncated_zip_is_refused_by_name(packed):
    packed.write_bytes(packed.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"pack\.zip: cannot be read"):
        open_images(packed)


def test_a_member_with_a_wrong_checksum_is_refused_by_name(packed):
    data = packed.read_bytes()
    place = data.index(png(2))
    packed.write_bytes(data[:place] + b"x" + data[place + 1 :])
    with pytest.raises(DataError, match=r"pack\.zip/b/2\.png: cannot be read: Bad CRC"):
        list(open_images(packed).read())


def test_a_path_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"gone: cannot be read"):
        open_images(tmp_path / "gone")


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
