"""Class folders and tables of one's own, and LFW."""

import gzip
import shutil
import unicodedata

import numpy as np
import pandas as pd
import pytest

from dml_bench.data import lfw
from dml_bench.data.catalog import LISTINGS
from dml_bench.data.lfw import parse_pairs
from dml_bench.data.listing import GALLERY, QUERY, TEST, TRAIN
from dml_bench.errors import DataError

CLASSES = ("Äpfel", "birnen grün", "Cherry, red", "shoes/red", "bags/red")
TREE = {f"Meine Bilder/{name}/photo {i}.JPG": b"x" for name in CLASSES for i in (1, 2)}
STRAYS = {"Meine Bilder/Äpfel/._photo 1.JPG": b"", "Meine Bilder/Äpfel/notes.txt": b"", "Meine Bilder/.DS_Store": b""}


@pytest.mark.parametrize("ending", ["", ".zip", ".tgz"])
def test_class_folders_with_blanks_commas_and_umlauts(tmp_path, files, ending):
    top = tmp_path / f"x{ending}"
    files.pack(top, TREE | STRAYS) if ending else files.write(top, TREE | STRAYS)
    listing = LISTINGS.build("folder", tmp_path, path=top.name)
    assert listing.class_names == ("bags/red", "birnen grün", "Cherry, red", "shoes/red", "Äpfel")
    assert np.bincount(listing.labels).tolist() == [2] * 5
    assert set(listing.labels[listing.part(TRAIN)]) == {0, 1, 2}
    assert len(listing.source.strays) == 2


def test_paths_are_found_below_the_root_absolutely_and_here(tmp_path, files, monkeypatch):
    files.write(tmp_path / "data" / "mine", TREE)
    for root, path in ((tmp_path / "data", "mine"), (None, str(tmp_path / "data" / "mine"))):
        assert len(LISTINGS.build("folder", root, path=path)) == 10
    monkeypatch.chdir(tmp_path)
    assert len(LISTINGS.build("folder", None, path="./data/mine")) == 10
    with pytest.raises(DataError, match=r"path: there is no .*gone.*name it absolutely"):
        LISTINGS.build("folder", tmp_path, path="gone")


def test_folders_train_and_test_are_the_split(tmp_path, files):
    tree = {f"{part}/{name}/1.png": b"x" for part, names in (("train", "ab"), ("test", "cd")) for name in names}
    listing = LISTINGS.build("folder", None, path=str(files.write(tmp_path, tree)))
    sides = {listing.class_names[n]: role for n, role in zip(listing.labels, listing.roles, strict=True)}
    assert sides == {"a": TRAIN, "b": TRAIN, "c": TEST, "d": TEST}
    files.write(tmp_path, {"test/a/1.png": b"x"})
    with pytest.raises(DataError, match="the class 'a' is in train and in test"):
        LISTINGS.build("folder", None, path=str(tmp_path))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"notes.txt": b""}, "there is no image in it"),
        ({"a/1.jpg": b"", "b/1.jpg": b"", "2.jpg": b""}, r"2\.jpg: lies in no class folder"),
        ({"a/1.jpg": b"", "b/1.jpg": b""}, "has 2 classes; a class-disjoint split needs 4"),
        ({"a/1.jpg": b"", "a/2.jpg": b""}, "has 1 classes"),
    ],
)
def test_folders_that_are_no_data_set_are_refused(tmp_path, files, tree, message):
    with pytest.raises(DataError, match=message):
        LISTINGS.build("folder", None, path=str(files.write(tmp_path, tree)))


def test_a_class_of_one_image_is_kept(tmp_path, files):
    tree = {f"{name}/{i}.png": b"x" for name in "abcd" for i in range(1 if name == "d" else 3)}
    listing = LISTINGS.build("folder", None, path=str(files.write(tmp_path, tree)))
    assert np.bincount(listing.labels).tolist() == [3, 3, 3, 1]


HEAD = "Path,label,split,super_label,x_1,y_1,x_2,y_2,more\n"
ROWS = (
    'photos ü/1.jpg,"Shoes, red",train,1,0,0,5,5,\n'
    "photos ü/2.jpg,bag,train,1,1,1,6,6,\n"
    "photos ü/3.jpg,hat,gallery,2,0,0,5,5,\n"
    "photos ü/4.jpg,hat,query,2,0,0,5,5,\n"
)


@pytest.fixture
def photos(tmp_path, files):
    return files.write(tmp_path, {f"photos ü/{i}.jpg": b"x" * i for i in range(1, 5)})


def build(folder, text, **options):
    (folder / "my.csv").write_text(text, encoding="utf-8")
    return LISTINGS.build("table", folder, path="my.csv", **options)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables(photos, separator):
    text = HEAD + ROWS.replace('"Shoes, red"', "Shoes")
    listing = build(photos, "\ufeff" + text.replace(",", separator), boxes=True)
    assert listing.class_names == ("bag", "hat", "Shoes")
    assert listing.labels.tolist() == [2, 0, 1, 1]
    assert listing.roles.tolist() == [TRAIN, TRAIN, GALLERY, QUERY]
    assert listing.super_labels.tolist() == [0, 1, 0]
    assert listing.boxes.tolist() == [[0, 0, 5, 5], [1, 1, 6, 6], [0, 0, 5, 5], [0, 0, 5, 5]]
    assert listing.variant == ("boxes",)
    assert list(listing.source.read(listing.paths)) == [b"x", b"xx", b"xxx", b"xxxx"]
    assert build(photos, text).boxes is None


def test_a_label_may_hold_a_comma(photos):
    assert build(photos, HEAD + ROWS).class_names == ("bag", "hat", "Shoes, red")


def test_parquet_gives_the_same(photos):
    pytest.importorskip("pyarrow")
    listing = build(photos, HEAD + ROWS)
    pd.read_csv(photos / "my.csv").to_parquet(photos / "my.parquet")
    same = LISTINGS.build("table", photos, path="my.parquet")
    assert (same.fingerprint, same.class_names) == (listing.fingerprint, listing.class_names)
    assert same.labels.tolist() == listing.labels.tolist()


def test_images_may_lie_in_an_archive_beside_or_elsewhere(tmp_path, files, photos):
    listing = build(photos, HEAD + ROWS)
    (tmp_path / "y").mkdir()
    files.pack(tmp_path / "y" / "photos ü.zip", {f"photos ü/{i}.jpg": b"x" * i for i in range(1, 5)})
    beside = build(tmp_path / "y", HEAD + ROWS)
    assert list(beside.source.read(beside.paths)) == list(listing.source.read(listing.paths))
    elsewhere = build(photos, HEAD + ROWS, images="y/photos ü.zip")
    assert list(elsewhere.source.read(elsewhere.paths)) == list(listing.source.read(listing.paths))


def test_numbers_as_labels_are_ordered_as_numbers(photos):
    rows = "".join(f"photos ü/{i}.jpg,{n}\n" for i, n in ((1, 10), (2, 9), (3, 2), (4, 100)))
    listing = build(photos, "path,label\n" + rows)
    assert listing.class_names == ("2", "9", "10", "100")
    assert listing.roles.tolist() == [TEST, TRAIN, TRAIN, TEST]


def test_query_and_gallery_flags_of_test_images(photos):
    flags = ("train,,", "train,,", "validation,True,False", "validation,True,True")
    rows = "".join(f"photos ü/{i}.jpg,{i // 3},{flag}\n" for i, flag in zip(range(1, 5), flags, strict=True))
    assert build(photos, "path,label,split,is_query,is_gallery\n" + rows).roles.tolist() == [TRAIN, TRAIN, QUERY, TEST]


@pytest.mark.parametrize(
    ("columns", "values", "message"),
    [
        ("split,is_query,is_gallery", "test,maybe,1", r"row 3: is_query must be true or false, not 'maybe'"),
        ("split,is_query", "test,1", r"my\.csv: has the column is_query but not is_gallery"),
        ("split,is_gallery", "test,1", r"my\.csv: has the column is_gallery but not is_query"),
    ],
)
def test_wrong_flags_are_named(photos, columns, values, message):
    train = "train" + "," * values.count(",")
    rows = "".join(f"photos ü/{i}.jpg,{i},{values if i > 2 else train}\n" for i in range(1, 5))
    with pytest.raises(DataError, match=message):
        build(photos, f"path,label,{columns}\n{rows}")


def test_a_class_on_both_sides_must_be_asked_for(photos):
    text = (HEAD + ROWS).replace("4.jpg,hat", "4.jpg,bag")
    with pytest.raises(DataError, match=r"1 classes are to train and to test, such as 'bag'"):
        build(photos, text)
    assert build(photos, text, split="official_closed").variant == ("official_closed",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("photos ü/3", "photos ü/9", r"my\.csv: row 3: the image photos ü/9\.jpg is not in"),
        ("hat,gallery", ",gallery", r"row 3: the label is empty"),
        ("photos ü/3.jpg", "", r"row 3: the path is empty"),
        ("gallery", "galery", r"row 3: split must be one of train, test, .* not 'galery'"),
        ("Path", "where", r"has no column path or image_path .*; its columns are where, label"),
        ("label,split", "labelled,split", r"has no column label or class"),
        ("2.jpg", "1.jpg", r"names the image 'photos ü/1\.jpg' twice"),
        ("train", "test", r"must name images to train and images to test"),
        ('red",train', 'red",trains', r"row 1: split must be one of train, test, .* not 'trains'"),
        ("super_label", "LABEL ", r"my\.csv: has two columns named 'label'"),
        ("5,5,\n", "5,5,7,8,9\n", r"my\.csv: cannot be read: not a table"),
    ],
)
def test_mistakes_in_a_table_are_named(photos, old, new, message):
    with pytest.raises(DataError, match=message):
        build(photos, (HEAD + ROWS).replace(old, new))


@pytest.mark.parametrize("box", ["5,0,5,5", "0,0,5,x", "0,0,,5", "0,5,5,1"])
def test_boxes_that_are_none_are_named(photos, box):
    with pytest.raises(DataError, match="row 3: the box is not one"):
        build(photos, HEAD + ROWS.replace("gallery,2,0,0,5,5", f"gallery,2,{box}"), boxes=True)


@pytest.mark.parametrize("written", ["NFC", "NFD"])
@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("packed", [False, True])
def test_umlauts_are_found_however_they_are_composed(tmp_path, files, written, stored, packed):
    names = [f"Bäume groß/{i} ü.JPG" for i in range(4)]
    tree = {unicodedata.normalize(stored, name): bytes([i]) for i, name in enumerate(names)}
    folder = unicodedata.normalize(stored, "Bäume groß")
    files.pack(tmp_path / f"{folder}.zip", tree) if packed else files.write(tmp_path, tree)
    rows = "".join(unicodedata.normalize(written, f"{name},{i}\n") for i, name in enumerate(names))
    listing = build(tmp_path, "path,label\n" + rows)
    assert list(listing.source.read(listing.paths)) == [bytes([i]) for i in range(4)]


def test_paths_of_windows_are_found(photos):
    rows = "".join(f"photos ü\\{i}.jpg,{i}\n" for i in range(1, 5))
    assert build(photos, "path,label\n" + rows).paths == tuple(f"photos ü/{i}.jpg" for i in range(1, 5))


def test_boxes_need_their_columns(photos):
    with pytest.raises(DataError, match="'boxes: true' needs the columns left top right bottom, or"):
        build(
            photos,
            "path,label,split\n"
            + "".join(f"photos ü/{i}.jpg,{i},train\n" for i in range(1, 5)).replace("4,train", "4,test"),
            boxes=True,
        )


def test_an_empty_or_missing_table_is_named(photos):
    for text in ("", "path,label\n"):
        with pytest.raises(DataError, match=r"my\.csv: "):
            build(photos, text)


@pytest.mark.parametrize("name", ["cub200_first50", "caltech101", "grocery_store", "cars196_train24"])
def test_the_real_tables(data_root, name):
    rows = pd.read_csv(data_root / name / "labels.csv")
    listing = LISTINGS.build("table", data_root, path=f"{name}/labels.csv")
    assert len(listing) == len(rows)
    assert np.where(listing.roles == TRAIN, "train", "test").tolist() == rows["split"].tolist()
    assert [listing.class_names[n] for n in listing.labels] == rows["class_name"].tolist()


PEOPLE = {"Ann_Lee": 2, "Bo_Ek": 2, "Cy_Fu": 1, "Di_Go": 3, "Ed_Ha": 2}
PAIRS = "2\t1\nAnn_Lee\t1\t2\nAnn_Lee\t1\tBo_Ek\t2\nBo_Ek\t1\t2\nBo_Ek\t1\tCy_Fu\t1\n"


@pytest.fixture
def faces(files):
    return {f"lfw/{name}/{name}_{i + 1:04d}.jpg": files.picture() for name, n in PEOPLE.items() for i in range(n)}


@pytest.mark.parametrize("ending", ["", ".tgz"])
def test_faces(tmp_path, files, faces, monkeypatch, ending):
    monkeypatch.setattr(lfw, "OFFICIAL", (10, 5))
    home = files.write(tmp_path / "lfw_home", {"pairs.txt": PAIRS})
    files.pack(home / "lfw.tgz", faces) if ending else files.write(home, faces)
    listing = LISTINGS.build("lfw", tmp_path)
    trained = {listing.class_names[n] for n in listing.labels[listing.part(TRAIN)]}
    assert trained == {"Di_Go", "Ed_Ha"}
    tests = [listing.paths[i].rsplit("/", 1)[1] for i in listing.part(TEST)]
    named = [(tests[a], tests[b]) for a, b in zip(listing.pairs.first, listing.pairs.second, strict=True)]
    assert named[1] == ("Ann_Lee_0001.jpg", "Bo_Ek_0002.jpg")
    assert listing.pairs.same.tolist() == [True, False, True, False]
    assert listing.pairs.folds.tolist() == [0, 0, 1, 1]


def test_a_face_that_a_pair_names_must_be_there(tmp_path, files, faces, monkeypatch):
    monkeypatch.setattr(lfw, "OFFICIAL", (9, 4))
    del faces["lfw/Cy_Fu/Cy_Fu_0001.jpg"]
    files.write(tmp_path, faces | {"pairs.txt": PAIRS})
    with pytest.raises(DataError, match=r"a pair names an image that is not there: Bo_Ek_0001.jpg or Cy_Fu_0001.jpg"):
        LISTINGS.build("lfw", tmp_path)
    listing = LISTINGS.build("lfw", tmp_path, partial=True)
    assert len(listing.pairs) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"x:1: must be the number of folds"),
        ("2\t1\nA\t1\t2\n", r"x: must have 4 lines after the first, not 1"),
        (PAIRS.replace("Bo_Ek\t1\t2\n", "Bo_Ek\t1\tA\t2\n"), r"x:4: must be name, number, number, parted"),
        (PAIRS.replace("Cy_Fu\t1", "Cy_Fu\tone"), r"x:5: must be name, number, name, number"),
    ],
)
def test_damaged_pairs_are_named(text, message):
    with pytest.raises(DataError, match=message):
        parse_pairs(text, "x")


def test_the_real_pairs(data_root):
    text = gzip.decompress((data_root / "annotations" / "lfw" / "pairs.txt.gz").read_bytes()).decode()
    first, second, same, folds = parse_pairs(text, "pairs.txt")
    assert len(first) == 6000
    assert np.bincount(folds).tolist() == [600] * 10
    assert all((a[0] == b[0]) is one for a, b, one in zip(first, second, same, strict=True))
    assert sum(same) == 3000


def test_a_copied_folder_of_real_photographs(data_root, tmp_path):
    shutil.unpack_archive(data_root / "caltech101" / "101_ObjectCategories.zip", tmp_path)
    listing = LISTINGS.build("folder", None, path=str(tmp_path))
    packed = LISTINGS.build("folder", data_root, path="caltech101/101_ObjectCategories.zip")
    assert (listing.class_names, listing.labels.tolist()) == (packed.class_names, packed.labels.tolist())
