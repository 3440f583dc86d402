from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from dml_bench.data import omniglot
from dml_bench.data.dataset import DATASETS
from dml_bench.data.inspect import faults
from dml_bench.errors import DataError, OptionError

OFFICIAL = dict(omniglot.PARTS)
CHARACTERS = [("Latin", "character01"), ("Latin", "character02"), ("N_Ko", "character01")]


def drawing(number):
    """White paper with a black square whose place tells the drawing."""
    pixels = np.full((105, 105), 255, dtype=np.uint8)
    pixels[number : number + 15, 30:45] = 0
    data = BytesIO()
    Image.fromarray(pixels).convert("1").save(data, format="PNG")
    return data.getvalue()


def official(drawers=20):
    return {
        f"images_background/{alphabet}/{character}/{i:04d}_{j:02d}.png": drawing(20 * i + j)
        for i, (alphabet, character) in enumerate(CHARACTERS)
        for j in range(drawers)
    }


def evaluation():
    return {f"images_evaluation/Greek/character01/{i:04d}.png": drawing(i) for i in range(20)}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(omniglot, "PARTS", {"images_background": 3, "images_evaluation": 1})


def write(top, tree, files, ending=".zip"):
    for part in omniglot.PARTS:
        inside = {n: d for n, d in tree.items() if n.startswith("images_evaluation") == (part == "images_evaluation")}
        files.pack(top / f"{part}{ending}", inside) if ending else files.write(top, inside)
    return top


@pytest.mark.parametrize("ending", [".zip", "", ".tgz"])
def test_zip_tar_and_folder_give_the_same_images(tmp_path, files, ending):
    split = DATASETS.build("omniglot", write(tmp_path, official() | evaluation(), files, ending), image_size=105)
    part = split.train
    assert part.class_names == ("Latin/character01", "Latin/character02", "N_Ko/character01")
    assert split.test.class_names == ("Greek/character01",)
    assert part.labels.tolist() == [0] * 20 + [1] * 20 + [2] * 20
    assert part.image_shape == (105, 105, 1)
    for number in (0, 19, 20, 59):
        expected = np.zeros((105, 105), dtype=np.uint8)
        expected[number : number + 15, 30:45] = 255
        np.testing.assert_array_equal(part.images[number, :, :, 0], expected)


def test_images_are_reduced_with_antialiasing(tmp_path, files):
    part = DATASETS.build("omniglot", write(tmp_path, official() | evaluation(), files), image_size=35).train
    np.testing.assert_allclose(part.images[0, 1:4, 11:14, 0], 255, atol=25)  # the square's 15 pixels, a third of them
    assert part.images[1].astype(int).sum() == pytest.approx(part.images[0].astype(int).sum(), rel=0.1)
    assert len(np.unique(part.images)) > 2


def test_stray_files_are_passed_over(tmp_path, files):
    strays = {"images_background/Latin/character01/._0000_01.png": b"x", "__MACOSX/a/b/c.png": b"x", "README": b""}
    assert len(DATASETS.build("omniglot", write(tmp_path, official() | evaluation() | strays, files)).train) == 60


@pytest.mark.parametrize("ending", [".zip", ""])
def test_other_numbers_are_refused_with_file_and_counts(tmp_path, files, monkeypatch, ending):
    write(tmp_path, official() | evaluation(), files, ending)
    monkeypatch.setitem(omniglot.PARTS, "images_background", 964)
    with pytest.raises(DataError, match=r"images_background.*964 characters.* holds 3 characters and 60 images"):
        DATASETS.build("omniglot", tmp_path)


def test_a_missing_drawing_is_refused_and_its_character_named(tmp_path, files):
    tree = official() | evaluation()
    del tree["images_background/N_Ko/character01/0002_07.png"]
    with pytest.raises(DataError, match=r"59 images; the first odd one, 'N_Ko/character01', has 19"):
        DATASETS.build("omniglot", write(tmp_path, tree, files))


def test_damaged_drawings_are_refused_and_verify_names_them_all(tmp_path, files):
    names = [
        f"images_{part}/{a}/character01/{i}.png"
        for part, a, i in (("background", "N_Ko", "0002_07"), ("evaluation", "Greek", "0003"))
    ]
    write(tmp_path, official() | evaluation() | dict.fromkeys(names, b"not an image"), files)
    with pytest.raises(DataError, match=r"images_background/N_Ko/character01/0002_07\.png: not a readable PNG"):
        DATASETS.build("omniglot", tmp_path)
    found = list(faults("omniglot", tmp_path, {}))
    assert len(found) == 2 and all(name in fault for name, fault in zip(names, found, strict=True))


def test_changed_images_are_not_taken_from_the_cache(tmp_path, files):
    name = "images_background/Latin/character01/0000_00.png"
    before = DATASETS.build("omniglot", write(tmp_path, official() | evaluation(), files)).train
    after = DATASETS.build("omniglot", write(tmp_path, official() | evaluation() | {name: drawing(80)}, files)).train
    assert before.digest != after.digest


def test_a_missing_part_is_named(tmp_path, files):
    files.write(tmp_path, official())
    with pytest.raises(DataError, match=r"images_evaluation\.zip .* is in none of"):
        DATASETS.build("omniglot", tmp_path)


@pytest.mark.parametrize("size", [0, 106, 28.0, "28"])
def test_wrong_sizes_are_refused(size):
    with pytest.raises(OptionError, match="image_size"):
        DATASETS.build("omniglot", None, image_size=size)


def test_the_real_omniglot_is_read_whole(data_root, monkeypatch):
    monkeypatch.setattr(omniglot, "PARTS", OFFICIAL)
    split = DATASETS.build("omniglot", data_root, image_size=28)
    assert (split.train.num_classes, len(split.train)) == (964, 19280)
    assert (split.test.num_classes, len(split.test)) == (659, 13180)
    assert len({name.split("/")[0] for name in split.train.class_names}) == 30
    assert len({name.split("/")[0] for name in split.test.class_names}) == 20
    assert split.train.class_names[0] == "Alphabet_of_the_Magi/character01"
    assert set(split.train.class_counts.tolist()) == set(split.test.class_counts.tolist()) == {20}
    assert 0.02 < split.test.images.mean() / 255 < 0.15  # bright ink on black paper
    assert split.digest == DATASETS.build("omniglot", data_root, image_size=28).digest
