"""Stanford Online Products, In-Shop, Caltech-101 and the Grocery Store: tiny copies in the official layout."""

import csv
import gzip

import numpy as np
import pytest

from dml_bench.data import caltech101, grocery_store, inshop, sop
from dml_bench.data.catalog import LISTINGS
from dml_bench.data.listing import GALLERY, QUERY, TEST, TRAIN
from dml_bench.errors import DataError


@pytest.fixture
def products(files):
    kinds = ("bicycle", "chair")
    rows = [(i + 1, i // 2 + 1, i // 2 % 2 + 1, f"{kinds[i // 2 % 2]}_final/{i // 2}_{i % 2}.JPG") for i in range(8)]
    lines = [" ".join(map(str, row)) for row in rows]
    head = "image_id class_id super_class_id path"
    top = "Stanford_Online_Products"
    lists = {f"{top}/Ebay_train.txt": [head, *lines[:4]], f"{top}/Ebay_test.txt": [head, *lines[4:]]}
    pictures = {f"{top}/{row[3]}": files.picture((10 * row[0], 0, 0)) for row in rows}
    return pictures | {name: "\n".join(text) for name, text in lists.items()}


def test_products(tmp_path, files, products, monkeypatch):
    monkeypatch.setattr(sop, "OFFICIAL", {"train": (4, 2), "test": (4, 2)})
    files.pack(tmp_path / "Stanford_Online_Products.zip", products)
    listing = LISTINGS.build("sop", tmp_path)
    assert listing.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert listing.roles.tolist() == [TRAIN] * 4 + [TEST] * 4
    assert listing.super_labels.tolist() == [0, 1, 0, 1]
    assert listing.paths[2] == "Stanford_Online_Products/chair_final/1_0.JPG"


def test_products_must_be_all_there(tmp_path, files, products):
    del products["Stanford_Online_Products/chair_final/1_0.JPG"]
    files.write(tmp_path, products)
    with pytest.raises(DataError, match=r"Ebay_train\.txt: 1 images of the list are missing, such as chair_final/1_0"):
        LISTINGS.build("sop", tmp_path)
    listing = LISTINGS.build("sop", tmp_path, partial=True)
    assert (len(listing), listing.variant) == (7, ("partial",))


def test_a_product_on_both_sides_is_refused(tmp_path, files, products):
    top = "Stanford_Online_Products"
    products[f"{top}/Ebay_test.txt"] = products[f"{top}/Ebay_test.txt"].replace("5 3 1", "5 2 1")
    with pytest.raises(DataError, match=r"1 articles are to train and to test, such as 2"):
        LISTINGS.build("sop", files.write(tmp_path, products), partial=True)


def test_groceries_in_the_format_of_products(data_root, tmp_path, files):
    """The real list format, on real pictures of another set."""
    import shutil

    shutil.copytree(data_root / "grocery_store" / "sop_format", tmp_path / "Stanford_Online_Products")
    pack = LISTINGS.build("grocery_store", data_root)
    tree = dict.fromkeys((f"Stanford_Online_Products/{path}" for path in pack.paths), b"x")
    listing = LISTINGS.build("sop", files.write(tmp_path, tree), partial=True)
    assert np.bincount(listing.roles).tolist() == [3051, 2370]
    assert (len(listing.class_names), len(np.unique(listing.super_labels))) == (81, 43)


def test_real_lists_in_the_format_of_products(data_root):
    for part in ("train", "test"):
        packed = (data_root / "annotations" / "sop_format_shoes" / f"Ebay_{part}.txt.gz").read_bytes()
        rows = [line.split(None, 3) for line in gzip.decompress(packed).decode().splitlines()[1:]]
        assert all(len(row) == 4 for row in rows)


@pytest.fixture
def clothes(files):
    status = ["train"] * 4 + ["query", "gallery", "query", "gallery"]
    item = [1, 1, 2, 2, 3, 3, 4, 4]
    paths = [f"img/WOMEN/{'Dresses' if item[i] % 2 else 'Skirts'}/id_{item[i]:08d}/0{i}_1_front.jpg" for i in range(8)]
    rows = [f"{p:60} id_{n:08d}   {s}" for p, n, s in zip(paths, item, status, strict=True)]
    boxes = [f"{p} 1 1 002 001 010 008" for p in paths]
    pictures = {path: files.picture((10 * i, 0, 0)) for i, path in enumerate(paths)}
    lists = {
        "Eval/list_eval_partition.txt": "\n".join(["8", "image_name item_id evaluation_status", *rows]),
        "Anno/list_bbox_inshop.txt": "\n".join(["8", "image_name clothes_type pose_type x_1 y_1 x_2 y_2", *boxes]),
    }
    return pictures, lists


@pytest.mark.parametrize("layout", ["Img/img.zip", "Img/img", "img", "flat"])
def test_clothes(tmp_path, files, clothes, monkeypatch, layout):
    monkeypatch.setattr(inshop, "OFFICIAL", {"train": (4, 2), "query": (2, 2), "gallery": (2, 2)})
    pictures, lists = clothes
    home = tmp_path / "Inshop_Clothes"
    home.mkdir()
    if layout == "flat":
        files.write(home, {name.split("/")[1]: text for name, text in lists.items()} | pictures)
    else:
        files.write(home, lists)
        if layout == "Img/img.zip":
            (home / "Img").mkdir()
            files.pack(home / "Img" / "img.zip", pictures)
        else:
            files.write(home / layout.rpartition("/")[0], pictures)
    listing = LISTINGS.build("inshop", tmp_path, boxes=True)
    assert listing.roles.tolist() == [TRAIN] * 4 + [QUERY, GALLERY] * 2
    assert listing.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert listing.super_labels.tolist() == [0, 1, 0, 1]
    assert listing.boxes.tolist() == [[2, 1, 10, 8]] * 8
    assert list(listing.source.read(listing.paths)) == list(pictures.values())


def test_an_unknown_status_is_named(tmp_path, files, clothes):
    pictures, lists = clothes
    lists = {name: text.replace("gallery", "galery") for name, text in lists.items()}
    with pytest.raises(DataError, match=r"the status must be train, query, gallery, not 'galery'"):
        LISTINGS.build("inshop", files.write(tmp_path, pictures | lists), partial=True)


@pytest.fixture
def objects(files):
    names = ("ant", "Faces", "barrel", "chair", "BACKGROUND_Google", "Faces_easy")
    return {f"101_ObjectCategories/{name}/image_000{i}.jpg": files.picture() for name in names for i in (1, 2)}


def test_objects_without_clutter_and_doubles(tmp_path, files, objects, monkeypatch):
    monkeypatch.setattr(caltech101, "OFFICIAL", (8, 4))
    listing = LISTINGS.build("caltech101", files.write(tmp_path, objects))
    assert listing.class_names == ("ant", "barrel", "chair", "Faces")
    assert {listing.class_names[n] for n in listing.labels[listing.part(TRAIN)]} == {"ant", "barrel"}


def test_the_real_objects(data_root):
    listing = LISTINGS.build("caltech101", data_root, partial=True)
    with (data_root / "caltech101" / "labels.csv").open(encoding="utf-8") as file:
        rows = {row["path"]: (int(row["label"]), row["split"]) for row in csv.DictReader(file)}
    assert np.bincount(listing.roles).tolist() == [1972, 1957]
    assert [len(np.unique(listing.labels[listing.part(role)])) for role in (TRAIN, TEST)] == [50, 50]
    sides = np.where(listing.roles == TRAIN, "train", "test").tolist()
    assert {p: (n, s) for p, n, s in zip(listing.paths, listing.labels.tolist(), sides, strict=True)} == rows
    with pytest.raises(DataError, match="8,242 images of 100 classes, but 3,929 images of 100 classes"):
        LISTINGS.build("caltech101", data_root)


@pytest.fixture
def groceries(files):
    head = "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),Iconic,Description"
    names = ["Apple", '"Milk, skimmed"', "Pear", "Tomato"]
    rows = [f"{name},{i},Coarse{i // 2},{i // 2},x,y" for i, name in enumerate(names)]
    tree = {"dataset/classes.csv": "\r\n".join([head, *rows])}
    for part in ("train", "val", "test"):
        paths = [f"{part}/Fruit, Vegetables/{i}/{i}_001.jpg" for i in range(4)]
        tree |= {f"dataset/{path}": files.picture() for path in paths}
        tree[f"dataset/{part}.txt"] = "\n".join(f"{path}, {i}, {i // 2}" for i, path in enumerate(paths)) + "\n"
    return tree


def test_groceries(tmp_path, files, groceries, monkeypatch):
    monkeypatch.setattr(grocery_store, "OFFICIAL", (12, 4))
    monkeypatch.setattr(grocery_store, "TRAINING_CLASSES", 2)
    files.write(tmp_path / "GroceryStoreDataset", groceries)
    listing = LISTINGS.build("grocery_store", tmp_path)
    assert listing.class_names[1] == "Milk, skimmed"
    assert listing.roles.tolist() == [TRAIN, TRAIN, GALLERY, GALLERY] * 2 + [TRAIN, TRAIN, QUERY, QUERY]
    assert listing.super_labels.tolist() == [0, 0, 1, 1]
    closed = LISTINGS.build("grocery_store", tmp_path, split="official_closed")
    assert closed.roles.tolist() == [TRAIN] * 8 + [TEST] * 4
    assert closed.variant == ("official_closed",)


def test_a_grocery_line_without_classes_is_named(tmp_path, files, groceries):
    groceries["dataset/val.txt"] = "val/x.jpg\n"
    with pytest.raises(DataError, match=r"val\.txt:1: must be 'path, class, coarse class'"):
        LISTINGS.build("grocery_store", files.write(tmp_path, groceries))


def test_the_real_groceries(data_root):
    listing = LISTINGS.build("grocery_store", data_root)
    with (data_root / "grocery_store" / "labels.csv").open(encoding="utf-8") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert len(listing) == len(rows) == 5421
    for path, label, role in zip(listing.paths, listing.labels.tolist(), listing.roles.tolist(), strict=True):
        row = rows[path]
        assert (label, int(listing.super_labels[label])) == (int(row["label"]), int(row["super_label"]))
        tested = QUERY if row["official_split"] == "test" else GALLERY
        assert role == (TRAIN if row["split"] == "train" else tested)
    assert np.bincount(listing.roles, minlength=4).tolist() == [3051, 0, 1061, 1309]
    assert set(listing.labels[listing.part(TRAIN)]) == set(range(41))
    for role in (QUERY, GALLERY):
        assert set(listing.labels[listing.part(role)]) == set(range(41, 81))
