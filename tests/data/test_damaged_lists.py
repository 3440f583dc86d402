"""Whatever is wrong in the list of a data set, what comes is a listing or an error that says so."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dml_bench.data.catalog import LISTINGS
from dml_bench.errors import DataError

BIRDS = [f"{1 + i // 4:03d}.B/b {i}.jpg" for i in range(16)]
GROCERIES = {p: [f"{p}/Fruit, red/{i}/{i}.jpg" for i in (0, 1, 2, 3, 50, 51, 52, 53)] for p in ("train", "val", "test")}
DRESSES = [f"img/WOMEN/Dresses/id_{i // 2:08d}/0{i % 2}_1_front.jpg" for i in range(16)]
CHAIRS = [f"chair_final/{i // 2}_{i % 2}.JPG" for i in range(16)]
CARS = [f"{i:05d}.jpg" for i in range(16)]


def lines(*rows):
    return "".join(f"{row}\n" for row in rows)


def numbered(values):
    return lines(*(f"{i} {value}" for i, value in enumerate(values, start=1)))


SETS = {
    "cub200": (
        [f"CUB_200_2011/images/{path}" for path in BIRDS],
        {
            "CUB_200_2011/images.txt": numbered(BIRDS),
            "CUB_200_2011/image_class_labels.txt": numbered(1 + i // 4 for i in range(16)),
            "CUB_200_2011/classes.txt": numbered("abcd"),
            "CUB_200_2011/bounding_boxes.txt": numbered(["1.0 1.0 5.0 5.0"] * 16),
        },
        {"boxes": True},
    ),
    "grocery_store": (
        [f"dataset/{path}" for paths in GROCERIES.values() for path in paths],
        {
            "dataset/classes.csv": lines(
                "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int)",
                *(f"n{i},{i},co,{i // 2}" for i in (0, 1, 2, 3, 50, 51, 52, 53)),
            ),
            **{
                f"dataset/{part}.txt": lines(*(f"{path}, {path.split('/')[2]}, 1" for path in paths))
                for part, paths in GROCERIES.items()
            },
        },
        {},
    ),
    "inshop": (
        DRESSES,
        {
            "list_eval_partition.txt": lines(
                *("16", "image_name item_id evaluation_status"),
                *(
                    f"{p} id_{i // 2:08d} {('train', 'query', 'gallery')[i % 2 + 1 if i > 7 else 0]}"
                    for i, p in enumerate(DRESSES)
                ),
            ),
            "list_bbox_inshop.txt": lines(
                *("16", "image_name clothes_type pose_type x_1 y_1 x_2 y_2"),
                *(f"{path} 1 1 1 1 9 9" for path in DRESSES),
            ),
        },
        {"boxes": True},
    ),
    "sop": (
        [f"Stanford_Online_Products/{path}" for path in CHAIRS],
        {
            f"Stanford_Online_Products/Ebay_{part}.txt": lines(
                "image_id class_id super_class_id path", *(f"{i + 1} {i // 2 + 1} 1 {CHAIRS[i]}" for i in rows)
            )
            for part, rows in (("train", range(8)), ("test", range(8, 16)))
        },
        {},
    ),
    "cars196": (
        [f"car_data/train/{path}" for path in CARS],
        {
            "names.csv": lines(*(f'"Car, {i}"' for i in range(4))),
            "anno_train.csv": lines(*(f"{path},1,1,9,9,{i // 4 + 1}" for i, path in enumerate(CARS))),
        },
        {"boxes": True},
    ),
}
CASES = [(name, file) for name, (_, lists, _) in SETS.items() for file in lists]
WORDS = ["x", "", "0", "-1", "5", "1.5", "nan", "99999999999999999999", "../../etc/passwd", "ü", "\0", '"']


def changed(text, row, column, word, how):
    rows = text.splitlines()
    at = row % len(rows)
    if how == "word":
        separator = "," if "," in rows[at] else " "
        cells = rows[at].split(separator)
        cells[column % len(cells)] = word
        rows[at] = separator.join(cells)
    elif how == "row":
        rows[at] = word
    elif how == "gone":
        del rows[at]
    elif how == "twice":
        rows.insert(at, rows[at])
    else:
        rows = rows[:at]
    return lines(*rows)


@pytest.mark.parametrize(("name", "file"), CASES)
@given(
    row=st.integers(0, 30),
    column=st.integers(0, 6),
    word=st.sampled_from(WORDS),
    how=st.sampled_from(["word", "row", "gone", "twice", "cut"]),
)
@example(row=3, column=1, word="99999999999999999999", how="word")
@example(row=3, column=-1, word="99999999999999999999", how="word")
@example(row=3, column=-1, word="nan", how="word")
@example(row=3, column=-1, word="0", how="word")
@example(row=0, column=0, word="", how="cut")
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_changed_list_is_read_or_refused(tmp_path, files, name, file, row, column, word, how):
    images, lists, options = SETS[name]
    if not (tmp_path / images[0]).exists():
        files.write(tmp_path, dict.fromkeys(images, b"x"))
    files.write(tmp_path, lists | {file: changed(lists[file], row, column, word, how)})
    try:
        listing = LISTINGS.build(name, tmp_path, partial=True, **options)
    except DataError:
        return
    assert set(listing.paths) <= set(listing.source.stamps)
    assert all(listing.class_names)


@pytest.mark.parametrize("name", SETS)
def test_the_unchanged_lists_are_read(tmp_path, files, name):
    images, lists, options = SETS[name]
    listing = LISTINGS.build(name, files.write(tmp_path, dict.fromkeys(images, b"x") | lists), partial=True, **options)
    assert len(listing) == len(images)
