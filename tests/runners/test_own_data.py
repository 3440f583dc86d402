"""Settings that follow from one's own images, and the command that needs no recipe."""

import csv
import subprocess
import sys
import tarfile
import zipfile
from collections import defaultdict
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dml_bench.data.listing import GALLERY, QUERY, TEST, TRAIN, Listing
from dml_bench.data.samplers import pxk
from dml_bench.errors import DataError, RecipeError, ResultsError
from dml_bench.flow import VOCABULARY
from dml_bench.recipe.reader import read_recipe
from dml_bench.results.record import RunRecord
from dml_bench.runners.own_data import choose, keep_recipe, multiplies_bf16, own_recipe, verdict


class Nowhere:
    """A source whose files nobody reads."""

    path = "somewhere"
    stamps: ClassVar = {}
    strays = ()

    def read(self, names):
        raise AssertionError("settings follow from the list alone")


def listing(train, test, roles=None):
    """Return a listing with classes of these sizes."""
    sizes = [*train, *test]
    labels = np.repeat(np.arange(len(sizes)), sizes).astype(np.int64)
    if roles is None:
        roles = [TRAIN] * sum(train) + [TEST] * sum(test)
    paths = tuple(f"{i}.jpg" for i in range(len(labels)))
    names = tuple(map(str, range(len(sizes))))
    return Listing("folder", Nowhere(), paths, labels, np.array(roles, dtype=np.int8), names)


sizes = st.lists(st.integers(1, 60), min_size=2, max_size=60).filter(lambda counts: max(counts) > 1)


@given(train=sizes, test=sizes, side=st.integers(1, 4000), quick=st.booleans())
@settings(max_examples=20, deadline=None)
def test_any_data_gives_a_valid_recipe_that_its_sampler_can_draw(train, test, side, quick):
    document = choose(listing(train, test), side, "my images", quick=quick)
    runs = read_recipe({"name": "mine", **document}, VOCABULARY)
    kinds = {run.method for run in runs}
    assert kinds == {"norm_softmax", "proxy_anchor", "softtriple", "multi_similarity", "raw_pixels", "untrained"}
    training = runs[0].recipe.training
    size = document["dataset"]["image_size"]
    assert 3 <= training.epochs <= 60
    assert training.epochs == 3 or training.epochs * sum(train) * size**2 <= (60_000 if quick else 30_000) * 48**2
    assert training.precision == ("bf16" if quick else "fp32")
    options = {key: value for key, value in training.sampler.items() if key != "name"}
    labels = np.repeat(np.arange(len(train)), train).astype(np.int64)
    batch = next(iter(pxk(labels, **options).batches(np.random.default_rng(0))))
    assert len(np.unique(labels[batch])) == options["classes_per_batch"] >= 2
    assert 4 <= len(batch) <= 64


@pytest.mark.parametrize(
    ("images", "side", "size"),
    [(400, 300, 48), (4000, 300, 48), (4010, 300, 32), (400, 48, 48), (400, 20, 32), (9000, 20, 32)],
)
def test_image_size_follows_from_number_and_size_of_photos(images, side, size):
    data = listing([images // 10] * 10, [5, 5])
    assert choose(data, side, "x", quick=True)["dataset"]["image_size"] == size


def test_a_processor_without_bfloat16_trains_half_as_long(tmp_path):
    (tmp_path / "cpuinfo").write_text("flags : fpu avx512f avx512_bf16 sse\n")
    assert multiplies_bf16(tmp_path / "cpuinfo")
    assert not multiplies_bf16(tmp_path / "missing")
    data = listing([20] * 50, [20] * 50)
    epochs = [choose(data, 100, "x", quick=quick)["training"]["epochs"] for quick in (True, False)]
    assert epochs == [60, 30]


def scores(loss, recall, precision, status="ok"):
    """Return a record with these scores."""
    metrics = {"recall@1": recall, "map@r": precision} if status == "ok" else {}
    return RunRecord("mine", "r", "p", 0, "folder", loss, "convnet", 8, status, metrics=metrics)


def test_a_loss_that_is_not_above_raw_pixels_is_named():
    floor = scores("raw_pixels", 0.5, 0.2)
    untrained = scores("untrained", 0.1, 0.1)
    above, mixed, below = scores("arcface", 0.6, 0.3), scores("triplet", 0.6, 0.2), scores("contrastive", 0.4, 0.3)
    assert verdict([above, floor, untrained]) == ""
    assert verdict([above, mixed, below, floor]).startswith("Not every loss (triplet, contrastive not) is above")
    assert verdict([mixed, below, floor, scores("lost", 0, 0, "failed")]).startswith("No loss is above raw pixels")
    assert verdict([floor, scores("arcface", 0.9, 0.3), scores("arcface", 0.2, 0.3)]) == ""  # the mean over seeds
    assert verdict([mixed, below]) == ""


def test_few_images_get_two_seeds_and_every_class_in_reach():
    document = choose(listing([3, 3], [3, 3]), 200, "x")
    assert document["seeds"] == [0, 1]
    assert document["training"]["sampler"] == {"name": "pxk", "classes_per_batch": 2, "images_per_class": 3}
    assert document["training"]["epochs"] == 60
    assert choose(listing([40] * 50, [40] * 50), 200, "x", quick=True)["seeds"] == [0]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (listing([4], [4, 4]), "1 classes to train"),
        (listing([4, 4], [4]), "1 classes to test"),
        (listing([1, 1], [4, 4]), "no class to train has 2 images"),
        (listing([4, 4], [1, 1]), "no class to test has 2 images"),
        (listing([4, 4], [2, 2], [TRAIN] * 8 + [QUERY] * 2 + [GALLERY] * 2), "no query has an image of its class"),
    ],
)
def test_too_few_images_are_refused_with_what_is_needed(data, said):
    with pytest.raises(DataError, match=said):
        choose(data, 100, "x")


def test_an_edited_recipe_is_not_overwritten(tmp_path):
    document = {"name": "mine", **choose(listing([4, 4], [4, 4]), 100, "Fotos  für  mich, 1")}
    file = keep_recipe(document, ["training.epochs=3"], tmp_path)
    runs = read_recipe(file, VOCABULARY)
    assert [run.run_id for run in runs] == [
        run.run_id for run in read_recipe(document, VOCABULARY, ["training.epochs=3"])
    ]
    keep_recipe(document, ["training.epochs=3"], tmp_path)  # the same again
    with pytest.raises(ResultsError, match="--force"):
        keep_recipe(document, [], tmp_path)
    keep_recipe(document, [], tmp_path, force=True)
    assert "epochs: 60" in file.read_text(encoding="utf-8")


def dml_bench(*words, cwd):
    command = [sys.executable, "-m", "dml_bench", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)


def drawn(path, kind, rng):
    """Save a noisy 40 x 40 picture of a bar in one of 8 directions."""
    y, x = np.mgrid[-20:20, -20:20]
    bar = np.abs(np.cos(kind * np.pi / 8) * x + np.sin(kind * np.pi / 8) * y + rng.integers(-8, 9)) < 3
    pixels = np.where(bar, 200, 60) + rng.normal(0, 25, (40, 40))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def test_errors_say_what_is_allowed(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "empty").mkdir()
    drawn(tmp_path / "flat" / "1.png", 0, rng)
    for kind in range(3):
        drawn(tmp_path / "three" / str(kind) / "1.png", kind, rng)
    (tmp_path / "no_label.csv").write_text("path,colour\nflat/1.png,red\n")
    for name, said in (
        ("missing", "no such folder or file"),
        ("empty", "no image"),
        ("flat", "class folder"),
        ("three", "needs 4"),
        ("no_label.csv", "no column label"),
    ):
        with pytest.raises(DataError, match=said):
            own_recipe(tmp_path / name)


def test_options_of_the_reader_decide_what_is_read(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"{kind}/{i}.png,{kind},{'train' if i < 2 else 'test'}" for kind in range(3) for i in range(4)]
    for row in rows:
        drawn(tmp_path / "elsewhere" / row.split(",")[0], 0, rng)
    (tmp_path / "my.csv").write_text("\n".join(["path,label,split", *rows]))
    with pytest.raises(DataError, match="row 1: the image 0/0.png is not in"):
        own_recipe(tmp_path / "my.csv")
    there = f"dataset.images={tmp_path / 'elsewhere'}"
    with pytest.raises(DataError, match="3 classes are to train and to test"):
        own_recipe(tmp_path / "my.csv", [there])
    closed = "dataset.split=official_closed"
    document = own_recipe(tmp_path / "my.csv", [there, closed, "training.epochs=1"])
    assert document["name"] == "my"
    assert document["training"]["sampler"]["images_per_class"] == 2
    with pytest.raises(RecipeError, match="write it as path=value"):
        own_recipe(tmp_path / "my.csv", ["dataset.split"])


@pytest.mark.e2e
def test_a_recipe_or_data_but_not_both(tmp_path):
    for words, said in (((), "--data"), (("a.yaml", "--data", "b"), "not both"), (("--data", "b"), "no such folder")):
        done = dml_bench("run", *words, cwd=tmp_path)
        assert done.returncode == 2
        assert said in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.e2e
def test_a_table_with_commas_in_labels_runs_without_a_recipe(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for kind in range(4):
        for i in range(6):
            file = f"Bilder für mich/{kind}-{i}.png"
            drawn(tmp_path / file, kind, rng)
            rows.append((file, f"shoe, size {kind}"))
    with (tmp_path / "my.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("path", "label"), *rows])
    words = ("run", "--data", "my.csv", "--set", "training.epochs=1", "--set", "seeds=[0]", "-j", 2)
    dry = dml_bench(*words, "--dry-run", cwd=tmp_path)
    assert dry.returncode == 0, dry.stderr
    assert not (tmp_path / "runs").exists()
    done = dml_bench(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("norm_softmax", "proxy_anchor", "softtriple", "multi_similarity", "raw_pixels", "untrained"):
        assert word in done.stdout
    again = dml_bench("run", "runs/my/recipe.yaml", "--out", "runs/my", cwd=tmp_path)
    assert "0 runs to do" in again.stdout


@pytest.mark.e2e
def test_class_folders_with_spaces_and_umlauts_run_without_a_recipe(data_root, tmp_path):
    place = tmp_path / "Meine Bücher & Bilder"
    with zipfile.ZipFile(data_root / "caltech101" / "101_ObjectCategories.zip") as archive:
        images = [name for name in archive.namelist() if name.endswith(".jpg") and "/._" not in name]
        by_class = defaultdict(list)
        for name in sorted(images):
            by_class[name.split("/")[-2]].append(name)
        for kind, names in sorted(by_class.items())[:12]:
            (place / f"Größe {kind}").mkdir(parents=True)
            for name in names[:16]:
                (place / f"Größe {kind}" / name.split("/")[-1]).write_bytes(archive.read(name))
    document = own_recipe(place)
    assert document["dataset"] == {"name": "folder", "path": str(place), "image_size": 48}
    out = tmp_path / "out"
    changes = ("--set", "training.epochs=4", "--set", "seeds=[0]", "--set", "dataset.image_size=32")
    done = dml_bench("run", "--data", place, "--out", out, *changes, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (out / "recipe.yaml").exists()
    with (out / "report" / "summary.csv").open() as stream:
        scores = {row["loss"]: float(row["recall@1_mean"]) for row in csv.DictReader(stream)}
    assert len(scores) == 6
    assert all(score > 1.5 / 6 for score in scores.values())  # six classes to test, of equal size


@pytest.mark.e2e
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_archives_and_classes_with_one_image_run_without_a_recipe(kind, tmp_path):
    rng = np.random.default_rng(0)
    place = tmp_path / "Bücher für mich"
    for number in range(5):
        for i in range(1 if number in (1, 4) else 5):
            drawn(place / f"größe, {number}" / f"{i}.png", number, rng)
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
            for file in sorted(place.rglob("*.png")):
                archive.write(file, file.relative_to(tmp_path))
    else:
        with tarfile.open(tmp_path / "own.tar.gz", "w:gz") as archive:
            archive.add(place, place.name)
    name = f"own.{kind}"
    short = ("--set", "training.epochs=1", "--set", "seeds=[0]", "--set", "grid.loss=[norm_softmax]", "-j", 1)
    done = dml_bench("run", "--data", name, "--out", "out", *short, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stderr
    with (tmp_path / "out" / "report" / "summary.csv").open() as stream:
        recalls = {row["loss"]: float(row["recall@1_mean"]) for row in csv.DictReader(stream)}
    assert recalls.keys() == {"norm_softmax", "raw_pixels", "untrained"}
    said = "above raw pixels" in done.stdout
    assert said or recalls["norm_softmax"] > recalls["raw_pixels"]


@pytest.mark.e2e
def test_a_broken_image_is_named(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(4):
        for i in range(20):
            drawn(tmp_path / "own" / str(number) / f"{i:02}.png", number, rng)
    broken = tmp_path / "own" / "2" / "13.png"
    broken.write_bytes(broken.read_bytes()[:700])
    done = dml_bench("run", "--data", "own", cwd=tmp_path)
    assert done.returncode == 2
    assert "2/13.png" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("runs/*/*/record.json"))
