import csv

import numpy as np
import pytest
from scipy.io import savemat

from dml_bench.data import cars196
from dml_bench.data.catalog import LISTINGS
from dml_bench.data.listing import TEST, TRAIN
from dml_bench.errors import DataError

NAMES = ["Acura RL", "Audi S4", "Ram C/V", "smart fortwo"]
LABELS = [1, 1, 2, 2, 3, 3, 4, 4]
HALF = ["train", "test"] * 4


def structs(**columns):
    kinds = [(name, object) for name in columns]
    return np.array(list(zip(*columns.values(), strict=True)), dtype=kinds)[None]


def boxes(count):
    return dict.fromkeys(("bbox_x1", "bbox_y1"), [2] * count) | dict.fromkeys(("bbox_x2", "bbox_y2"), [9] * count)


def combined(folder, files):
    """``car_ims`` and ``cars_annos.mat``: one numbering, a flag for the half."""
    paths = [f"car_ims/{i + 1:06d}.jpg" for i in range(8)]
    files.write(folder, {path: files.picture((30 * i, 0, 0)) for i, path in enumerate(paths)})
    flags = [int(half == "test") for half in HALF]
    columns = {"relative_im_path": paths, **boxes(8), "class": LABELS, "test": flags}
    savemat(folder / "cars_annos.mat", {"annotations": structs(**columns), "class_names": np.array([NAMES], object)})


def devkit(folder, files, labelled=True):
    """``cars_train`` and ``cars_test``, each numbered from 1, beside the devkit."""
    (folder / "devkit").mkdir()
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array([NAMES], object)})
    for half in ("train", "test"):
        numbers = [i for i in range(8) if HALF[i] == half]
        names = [f"{n + 1:05d}.jpg" for n in range(4)]
        tree = {f"cars_{half}/{name}": files.picture((30 * i, 0, 0)) for i, name in zip(numbers, names, strict=True)}
        files.pack(folder / f"cars_{half}.tgz", tree)
        file = f"cars_{half}_annos" + ("_withlabels" if half == "test" and labelled else "")
        columns = {**boxes(4), "class": [LABELS[i] for i in numbers], "fname": names}
        if half == "test" and not labelled:
            del columns["class"]
        savemat(folder / "devkit" / f"{file}.mat", {"annotations": structs(**columns)})


def by_class(folder, files):
    """Class folders, with ``/`` in a name turned to ``-``, and lists without header."""
    (folder / "names.csv").write_text("\n".join(NAMES) + "\n")
    for half in ("train", "test"):
        numbers = [i for i in range(8) if HALF[i] == half]
        lines = []
        for n, i in enumerate(numbers):
            name = NAMES[LABELS[i] - 1].replace("/", "-")
            tree = {f"car_data/car_data/{half}/{name}/{n + 1:05d}.jpg": files.picture((30 * i, 0, 0))}
            files.write(folder, tree)
            lines.append(f"{n + 1:05d}.jpg,2,2,9,9,{LABELS[i]}")
        (folder / f"anno_{half}.csv").write_text("\n".join(lines))


@pytest.fixture(params=[combined, devkit, by_class])
def cars(request, tmp_path, files, monkeypatch):
    monkeypatch.setattr(cars196, "OFFICIAL", (8, 4))
    (tmp_path / "cars196").mkdir()
    request.param(tmp_path / "cars196", files)
    return tmp_path


def test_every_layout_gives_the_same_cars(cars, files):
    listing = LISTINGS.build("cars196", cars)
    found = list(zip(listing.source.read(listing.paths), listing.labels.tolist(), strict=True))
    order = range(8) if "car_ims" in listing.paths[0] else [0, 2, 4, 6, 1, 3, 5, 7]
    assert found == [(files.picture((30 * i, 0, 0)), LABELS[i] - 1) for i in order]
    assert listing.class_names == tuple(NAMES)
    assert [role == TRAIN for role in listing.roles] == [LABELS[i] < 3 for i in order]
    assert listing.variant == ()


def test_the_closed_split_is_the_authors_halves_in_every_layout(cars):
    listing = LISTINGS.build("cars196", cars, split="official_closed", boxes=True)
    order = range(8) if "car_ims" in listing.paths[0] else [0, 2, 4, 6, 1, 3, 5, 7]
    assert listing.roles.tolist() == [TRAIN if HALF[i] == "train" else TEST for i in order]
    assert listing.boxes.tolist() == [[1, 1, 9, 9]] * 8
    assert listing.variant == ("boxes", "official_closed")


def test_test_annotations_without_classes_leave_that_half_out(tmp_path, files):
    devkit(tmp_path, files, labelled=False)
    with pytest.raises(DataError, match="16,185 images of 196 classes, but 4 images of 4"):
        LISTINGS.build("cars196", tmp_path)
    assert len(LISTINGS.build("cars196", tmp_path, partial=True)) == 4


def test_missing_images_are_named(cars):
    image = next(cars.rglob("0*1.jpg"), None)
    if image is None:
        pytest.skip("archives here")
    image.unlink()
    with pytest.raises(DataError, match=r"1 images of the list are missing, such as .*0*1\.jpg"):
        LISTINGS.build("cars196", cars)


def test_a_layout_that_is_not_there_is_refused(tmp_path, files):
    combined(tmp_path, files)
    with pytest.raises(DataError, match="no copy in the layout 'devkit'"):
        LISTINGS.build("cars196", tmp_path, layout="devkit")


def test_a_damaged_annotation_file_is_named(tmp_path, files):
    combined(tmp_path, files)
    path = tmp_path / "cars_annos.mat"
    for data in (b"", b"404 Not Found", path.read_bytes()[:200]):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"cars_annos\.mat: cannot be read"):
            LISTINGS.build("cars196", tmp_path)


def test_annotations_without_a_field_or_of_another_kind_are_named(tmp_path, files):
    combined(tmp_path, files)
    names = np.array([NAMES], object)
    for wrong in (structs(relative_im_path=["car_ims/1.jpg"], test=[0]), np.arange(8), np.array(["a", "b"], object)):
        savemat(tmp_path / "cars_annos.mat", {"annotations": wrong, "class_names": names})
        with pytest.raises(DataError, match=r"cars_annos\.mat: not the annotations of Cars196"):
            LISTINGS.build("cars196", tmp_path)


def test_a_long_cell_of_a_list_is_named(tmp_path, files):
    by_class(tmp_path, files)
    (tmp_path / "anno_train.csv").write_text("x" * 200_000 + ",2,2,9,9,1\n")
    with pytest.raises(DataError, match=r"anno_train\.csv: cannot be read: field larger"):
        LISTINGS.build("cars196", tmp_path, partial=True)


def test_a_damaged_row_of_a_list_is_named(tmp_path, files):
    by_class(tmp_path, files)
    (tmp_path / "anno_train.csv").write_text("00001.jpg,2,2,9,9,1\n00002.jpg,2,x,9,9,2\n")
    with pytest.raises(DataError, match=r"anno_train\.csv:2: must be 'file, x1"):
        LISTINGS.build("cars196", tmp_path, partial=True)


@pytest.mark.parametrize("layout", ["auto", "devkit", "by_class"])
def test_the_real_cars(data_root, layout):
    listing = LISTINGS.build("cars196", data_root, partial=True, layout=layout)
    with (data_root / "cars196_train24" / "labels.csv").open(encoding="utf-8") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert len(listing) == len(rows) == 4704
    assert np.bincount(listing.labels).tolist() == [24] * 196
    assert set(listing.labels[listing.part(TRAIN)]) == set(range(98))
    for path, label, role in zip(listing.paths, listing.labels.tolist(), listing.roles.tolist(), strict=True):
        row = rows[path.removeprefix("cars_train/")]
        assert listing.class_names[label] == row["class_name"]
        assert ("train" if role == TRAIN else "test") == row["split"]


def test_the_real_annotations_of_all_cars_give_the_published_split(data_root):
    import gzip

    path = data_root / "annotations" / "cars196" / "cars_annos.txt.gz"
    labels = [int(line.split(",")[1]) for line in gzip.decompress(path.read_bytes()).decode().split()]
    roles = cars196.half_of_classes(np.array(labels), "x")
    assert ((roles == TRAIN).sum(), (roles == TEST).sum()) == (8054, 8131)
