import io
import os
import pickle
import tarfile
import threading
import zipfile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dml_bench.data import packed
from dml_bench.data.sources import Joined, is_stray, only, open_source, read_table, read_text, top_of
from dml_bench.errors import DataError

CONTENT = {
    "set/b/2.jpg": b"two",
    "set/a/eins ü.jpg": b"one",
    "set/list.txt": b"1 a b\n2 c\n",
    "set/a/._1.jpg": b"",
    "__MACOSX/set/a/1.jpg": b"",
    "set/.DS_Store": b"",
    "set/b/Thumbs.db": b"",
}
ENDINGS = ("", ".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")


@pytest.fixture(params=ENDINGS)
def source(request, tmp_path, files):
    path = tmp_path / f"pack{request.param}"
    files.pack(path, CONTENT) if request.param else files.write(path, CONTENT)
    return open_source(path)


def test_every_kind_gives_the_same_files_and_counts_strays(source):
    assert list(source.stamps) == ["set/a/eins ü.jpg", "set/b/2.jpg", "set/list.txt"]
    assert list(source.strays) == ["__MACOSX/set/a/1.jpg", "set/.DS_Store", "set/a/._1.jpg", "set/b/Thumbs.db"]
    assert list(source.read(["set/b/2.jpg", "set/a/eins ü.jpg", "set/b/2.jpg"])) == [b"two", b"one", b"two"]
    assert list(pickle.loads(pickle.dumps(source)).read(["set/b/2.jpg"])) == [b"two"]


def test_a_missing_file_is_named(source):
    with pytest.raises(DataError, match=r"pack.*gone\.jpg.*cannot be read"):
        list(source.read(["set/gone.jpg"]))


def test_threads_read_at_once(source):
    found = []
    threads = [threading.Thread(target=lambda: found.extend(source.read(["set/b/2.jpg"] * 50))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"two"] * 200


def test_a_child_process_does_not_share_the_open_file(tmp_path, files):
    source = open_source(files.pack(tmp_path / "x.zip", {f"{i}.txt": bytes([i]) * 5000 for i in range(50)}))
    names = list(source.stamps)
    before = list(source.read(names))
    child = os.fork()
    if child == 0:
        os._exit(0 if all(list(source.read(names)) == before for _ in range(20)) else 1)
    assert all(list(source.read(names)) == before for _ in range(20))
    assert os.waitpid(child, 0)[1] == 0


def test_stamps_follow_content(tmp_path, files):
    for name in ("x.zip", "x.tar"):
        first = open_source(files.pack(tmp_path / name, {"a": b"1"})).stamps
        os.utime(tmp_path / name, ns=(1, 1))
        assert open_source(files.pack(tmp_path / name, {"a": b"2"})).stamps != first
    (tmp_path / "y").mkdir()
    files.write(tmp_path / "y", {"a": b"1"})
    before = open_source(tmp_path / "y").stamps
    files.write(tmp_path / "y", {"a": b"22"})
    assert open_source(tmp_path / "y").stamps != before


@pytest.mark.parametrize("name", ["/etc/1.png", "../1.png", "a/../../1.png", "..\\1.png", "C:\\1.png"])
@pytest.mark.parametrize("ending", [".zip", ".tar", ".tgz"])
def test_a_member_that_leads_out_is_refused(tmp_path, files, name, ending):
    path = files.pack(tmp_path / f"bad{ending}", {"a.png": b"", name: b"x"})
    with pytest.raises(DataError, match=r"bad\.\w+: the member '.*' leads out"):
        open_source(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_file_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        info = tarfile.TarInfo("images/1.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(DataError, match=r"'images/1\.jpg' is a link or a device"):
        open_source(tmp_path / "bad.tar")


def test_a_tar_file_with_holes_is_refused(tmp_path):
    """Its bytes do not lie in one piece, as GNU tar --sparse writes them."""
    info = tarfile.TarInfo("1.jpg")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[386:410] = b"%011o\0%011o\0" % (88, 512)  # one piece of 512 bytes, at 88
    head[483:495] = b"%011o\0" % 600
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    (tmp_path / "bad.tar").write_bytes(bytes(head) + b"A" * 512 + bytes(1024))
    with pytest.raises(DataError, match=r"bad\.tar: the member '1\.jpg' has holes"):
        open_source(tmp_path / "bad.tar")


def test_a_link_in_a_zip_file_is_refused(tmp_path):
    info = zipfile.ZipInfo("1.jpg")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match=r"'1\.jpg' is a link"):
        open_source(tmp_path / "bad.zip")


def test_a_name_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("1.jpg", "a")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("1.jpg", "b")
    with pytest.raises(DataError, match=r"'1\.jpg' is there twice"):
        open_source(tmp_path / "bad.zip")


@pytest.mark.parametrize("ending", [".zip", ".tgz", ".tar.xz"])
def test_an_archive_that_swells_is_refused(tmp_path, files, monkeypatch, ending):
    monkeypatch.setattr(packed, "ALWAYS_ALLOWED", 1 << 16)
    path = tmp_path / f"bomb{ending}"
    if ending == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("0.bmp", bytes(1 << 23))
    else:
        files.pack(path, {"0.bmp": bytes(1 << 23)})
    with pytest.raises(DataError, match=r"bomb.*expands to more than"):
        open_source(path)
    assert not list(packed.cache_folder().glob(".*"))


def test_a_member_too_large_is_refused(tmp_path, files, monkeypatch):
    monkeypatch.setattr(packed, "LARGEST_MEMBER", 100)
    with pytest.raises(DataError, match=r"'0\.bmp' has 101 bytes; 100 are allowed"):
        open_source(files.pack(tmp_path / "x.zip", {"0.bmp": bytes(101)}))


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tgz"])
@pytest.mark.parametrize("kept", [0, 10, 700])
def test_a_truncated_archive_is_refused_by_name(tmp_path, files, ending, kept):
    path = files.pack(tmp_path / f"cut{ending}", {f"{i}.txt": os.urandom(3000) for i in range(3)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"cut\.\w+: .*(cannot be read|is cut off)"):
        open_source(path)


def test_a_damaged_member_is_named(tmp_path, files):
    path = files.pack(tmp_path / "x.zip", {"a/1.jpg": b"some content"})
    path.write_bytes(path.read_bytes().replace(b"some content", b"other conten"))
    with pytest.raises(DataError, match=r"x\.zip/a/1\.jpg: cannot be read: Bad CRC"):
        list(open_source(path).read(["a/1.jpg"]))


def test_a_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone: cannot be read: there is no such"):
        open_source(tmp_path / "gone")


def test_folders_are_read_through_links_and_a_circle_of_them_ends(tmp_path, files):
    files.write(tmp_path / "far", {"a/1.jpg": b"x"})
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "circle").symlink_to(tmp_path / "far")
    assert list(open_source(tmp_path / "near").stamps) == ["link/a/1.jpg"]


def test_several_sources_are_read_as_one(tmp_path, files):
    one = open_source(files.pack(tmp_path / "one.zip", {"1.jpg": b"1", "._1.jpg": b""}))
    two = open_source(files.write(tmp_path / "two", {"1.jpg": b"2"}))
    both = Joined(tmp_path, {"x": one, "y": two})
    assert set(both.stamps) == {"x/1.jpg", "y/1.jpg"}
    assert both.strays == ("x/._1.jpg",)
    assert list(both.read(["y/1.jpg", "x/1.jpg", "y/1.jpg"])) == [b"2", b"1", b"2"]
    with pytest.raises(DataError, match="z: there is no such"):
        list(both.read(["z/1.jpg"]))


def test_only_named_files_are_listed(tmp_path, files):
    files.write(tmp_path, {"a": b"1", "b": b"2"})
    assert set(only(tmp_path, ["a", "gone", "nul\0"]).stamps) == {"a"}


def test_tables_name_the_line_that_is_short(tmp_path, files):
    source = open_source(files.write(tmp_path / "s", CONTENT))
    assert top_of(source, "list.txt") == "set/"
    assert read_table(source, "set/list.txt", 2) == [["1", "a b"], ["2", "c"]]
    with pytest.raises(DataError, match=r"set/list\.txt:2: must have 3 columns, not 2"):
        read_table(source, "set/list.txt", 3)
    with pytest.raises(DataError, match=r"gone\.txt is not in it"):
        top_of(source, "gone.txt")


def test_text_must_be_there_and_text(tmp_path, files):
    source = open_source(files.write(tmp_path / "s", {"a.txt": b"\xff\xfe\x00"}))
    with pytest.raises(DataError, match=r"a\.txt: not UTF-8"):
        read_text(source, "a.txt")
    with pytest.raises(DataError, match=r"b\.txt: there is no such file"):
        read_text(source, "b.txt")


@given(st.binary(max_size=600))
def test_whatever_the_bytes_only_data_errors_come(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("noise")
    for name in ("x.zip", "x.tar", "x.tgz"):
        (folder / name).write_bytes(data)
        try:
            open_source(folder / name)
        except DataError as error:
            assert name in str(error)


@given(
    st.sampled_from([".zip", ".tar"]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4),
)
@example(".zip", [(0.75, bytes(4))])  # a member without a name
@example(".zip", [(0.5546875, b"\1")])  # a member said to be longer than it is
@settings(max_examples=200)
def test_a_damaged_archive_is_refused_or_gives_what_it_says(tmp_path_factory, files, ending, changes):
    tree = {f"class {i}/{i}.jpg": b"%d" % i * 20 for i in range(3)}
    path = files.pack(tmp_path_factory.mktemp("damaged") / f"x{ending}", tree)
    data = bytearray(path.read_bytes()[: 4096 if ending == ".tar" else None])
    for where, change in changes:
        at = int(where * len(data))
        data[at : at + len(change)] = change
    path.write_bytes(data)
    try:
        source = open_source(path)
        contents = list(source.read(list(source.stamps)))
    except DataError as error:
        assert f"x{ending}" in str(error)
    else:
        assert [len(content) for content in contents] == [stamp[0] for stamp in source.stamps.values()]


def test_a_damaged_gzip_is_refused(tmp_path, files):
    path = files.pack(tmp_path / "x.tgz", {"a": os.urandom(5000)})
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"x\.tgz: cannot be read"):
        open_source(path)


@pytest.mark.parametrize(
    ("name", "stray"),
    [("a/._b.jpg", True), ("__MACOSX/a.jpg", True), ("a/Thumbs.db", True), ("a/_b.jpg", False), ("a/.b/c.jpg", False)],
)
def test_strays(name, stray):
    assert is_stray(name) is stray


def test_tar_members_may_begin_with_a_dot(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        info = tarfile.TarInfo("./a/1.jpg")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"1"))
    assert list(open_source(tmp_path / "x.tar").read(["a/1.jpg"])) == [b"1"]
