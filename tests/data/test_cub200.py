import csv

import numpy as np
import pytest

from dml_bench.data import cub200
from dml_bench.data.catalog import LISTINGS
from dml_bench.data.dataset import DATASETS
from dml_bench.data.listing import TEST, TRAIN
from dml_bench.errors import DataError

CLASSES = ("001.Albatross", "002.Ani", "003.Auklet", "004.Blackbird")


@pytest.fixture
def birds(files):
    """Two images of each of four species; the second's bird is red, on the right half."""
    rows = [(i + 1, c, f"{CLASSES[c]}/Bird_{i:04d}.jpg") for i, c in enumerate([0, 0, 1, 1, 2, 2, 3, 3])]
    tree = {f"CUB_200_2011/images/{path}": files.picture((20 * i, 0, 0), (16, 12)) for i, _, path in rows}
    lists = {
        "images": [f"{i} {path}" for i, _, path in rows],
        "image_class_labels": [f"{i} {c + 1}" for i, c, _ in rows],
        "classes": [f"{c + 1} {name}" for c, name in enumerate(CLASSES)],
        "train_test_split": [f"{i} {i % 2}" for i, _, _ in rows],
        "bounding_boxes": [f"{i} 8.0 0.0 8.0 6.0" for i, _, _ in rows],
    }
    strays = {"CUB_200_2011/images/001.Albatross/._Bird_0000.jpg": b"x", "CUB_200_2011/.DS_Store": b""}
    return tree | {f"CUB_200_2011/{name}.txt": "\n".join(lines) + "\n" for name, lines in lists.items()} | strays


@pytest.fixture
def official(monkeypatch):
    monkeypatch.setattr(cub200, "OFFICIAL", (8, 4))


@pytest.mark.parametrize("ending", ["", ".zip", ".tgz", ".tar"])
def test_every_kind_of_copy_gives_the_same(tmp_path, files, birds, official, ending):
    files.pack(tmp_path / f"CUB_200_2011{ending}", birds) if ending else files.write(tmp_path, birds)
    listing = LISTINGS.build("cub200", tmp_path)
    assert listing.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert listing.roles.tolist() == [TRAIN] * 4 + [TEST] * 4
    assert listing.class_names == CLASSES
    assert listing.variant == ()
    assert len(listing.source.strays) == 2
    assert next(listing.source.read(listing.paths[-1:])) == files.picture((160, 0, 0), (16, 12))


def test_the_root_may_be_the_data_set_itself(tmp_path, files, birds, official):
    files.write(tmp_path, birds)
    assert len(LISTINGS.build("cub200", tmp_path / "CUB_200_2011")) == 8


def test_the_closed_split_and_boxes_only_when_asked(tmp_path, files, birds, official):
    files.write(tmp_path, birds)
    closed = LISTINGS.build("cub200", tmp_path, split="official_closed", boxes=True)
    assert closed.roles.tolist() == [TRAIN, TEST] * 4
    assert closed.boxes.tolist() == [[8, 0, 16, 6]] * 8
    assert closed.variant == ("boxes", "official_closed")
    assert LISTINGS.build("cub200", tmp_path).boxes is None


def test_a_copy_with_fewer_images_is_refused_unless_it_may_be_partial(tmp_path, files, birds):
    files.write(tmp_path, birds)
    with pytest.raises(DataError, match=r"must hold 11,788 images of 200 classes, but 8 images of 4.*'partial: true'"):
        LISTINGS.build("cub200", tmp_path)
    assert LISTINGS.build("cub200", tmp_path, partial=True).variant == ("partial",)


def test_missing_images_are_named_or_left_out(tmp_path, files, birds, official):
    del birds["CUB_200_2011/images/002.Ani/Bird_0002.jpg"]
    files.write(tmp_path, birds)
    with pytest.raises(DataError, match=r"images\.txt: 1 images of the list are missing, such as 002\.Ani/Bird_0002"):
        LISTINGS.build("cub200", tmp_path)
    listing = LISTINGS.build("cub200", tmp_path, partial=True)
    assert (len(listing), listing.variant) == (7, ("partial",))


def test_a_list_that_lacks_an_image_is_named(tmp_path, files, birds, official):
    birds["CUB_200_2011/image_class_labels.txt"] = "1 1\n"
    with pytest.raises(DataError, match=r"image_class_labels\.txt: 7 images are not in it, such as number 2"):
        LISTINGS.build("cub200", files.write(tmp_path, birds))


def test_where_it_was_looked_for_is_said(tmp_path):
    with pytest.raises(DataError, match=r"CUB_200_2011\.zip .* is in none of: .*cub200"):
        LISTINGS.build("cub200", tmp_path)


def test_the_real_birds(data_root):
    listing = LISTINGS.build("cub200", data_root, partial=True)
    with (data_root / "cub200_first50" / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(listing.paths) == [row["path"] for row in rows]
    assert [listing.class_names[label] for label in listing.labels] == [row["class_name"] for row in rows]
    assert np.where(listing.roles == TRAIN, "train", "test").tolist() == [row["split"] for row in rows]
    assert set(listing.labels[listing.part(TRAIN)]) == set(range(25))
    assert set(listing.labels[listing.part(TEST)]) == set(range(25, 50))
    closed = LISTINGS.build("cub200", data_root, partial=True, split="official_closed")
    assert np.where(closed.roles == TRAIN, "train", "test").tolist() == [row["official_split"] for row in rows]
    boxes = LISTINGS.build("cub200", data_root, partial=True, boxes=True).boxes
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes[:, 2:] <= 128.5).all(axis=1).mean() > 0.99  # a few official boxes reach over the edge
    with pytest.raises(DataError, match="2,889 images of 50 classes are there"):
        LISTINGS.build("cub200", data_root)


def test_the_real_birds_are_decoded(data_root):
    split = DATASETS.build("cub200", data_root, partial=True, image_size=16)
    assert (len(split.train), split.train.num_classes, len(split.test), split.test.num_classes) == (1402, 25, 1487, 25)
    assert split.digest == DATASETS.build("cub200", data_root, partial=True, image_size=16).digest
