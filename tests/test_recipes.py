"""No recipe is dead: each trains an epoch on tiny copies of its data in the official layout, by the whole flow.

Of a grid, the first run, the last and one between are done; the losses have tests of their own.
"""

import struct
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from dml_bench.data import mnist, omniglot
from dml_bench.data.dataset import DATASETS
from dml_bench.errors import RecipeError
from dml_bench.flow import VOCABULARY, execute
from dml_bench.recipe.check import Run, complete
from dml_bench.recipe.reader import read_recipe
from dml_bench.recipe.schema import Recipe
from dml_bench.training.schedules import SCHEDULES

RECIPES = Path(__file__).parents[1] / "recipes"
FILES = sorted(RECIPES.rglob("*.yaml"))
CLASSES, IMAGES = 16, 4


def photo(path, label, number):
    rng = np.random.default_rng(100 * label + number)
    pixels = rng.integers(0, 256, (40, 44, 3)) // 4 + rng.permutation(3) * 40 + 10 * label
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def cub200(top):
    home = top / "CUB_200_2011"
    rows = [(c, f"{c + 1:03d}.Bird/Bird_{c}_{i}.jpg") for c in range(CLASSES) for i in range(IMAGES)]
    for n, (c, path) in enumerate(rows):
        photo(home / "images" / path, c, n)
    lists = {
        "images": [f"{n + 1} {path}" for n, (_, path) in enumerate(rows)],
        "image_class_labels": [f"{n + 1} {c + 1}" for n, (c, _) in enumerate(rows)],
        "classes": [f"{c + 1} {c + 1:03d}.Bird" for c in range(CLASSES)],
        "train_test_split": [f"{n + 1} {n % 2}" for n in range(len(rows))],
        "bounding_boxes": [f"{n + 1} 1.0 1.0 20.0 20.0" for n in range(len(rows))],
    }
    for name, lines in lists.items():
        (home / f"{name}.txt").write_text("\n".join(lines) + "\n")


def cars196(top):
    home = top / "cars196"
    rows = [(c, i) for c in range(CLASSES) for i in range(IMAGES)]
    names = [f"car_ims/{n + 1:06d}.jpg" for n in range(len(rows))]
    for n, (c, _) in enumerate(rows):
        photo(home / names[n], c, n)
    columns = {"relative_im_path": names, "bbox_x1": [1] * len(rows), "bbox_y1": [1] * len(rows)}
    columns |= {"bbox_x2": [20] * len(rows), "bbox_y2": [20] * len(rows), "class": [c + 1 for c, _ in rows]}
    columns |= {"test": [n % 2 for n in range(len(rows))]}
    kinds = [(name, object) for name in columns]
    cars = np.array(list(zip(*columns.values(), strict=True)), dtype=kinds)[None]
    class_names = np.array([[f"Car {c}" for c in range(CLASSES)]], object)
    savemat(home / "cars_annos.mat", {"annotations": cars, "class_names": class_names})


def sop(top):
    home, lines = top / "Stanford_Online_Products", {"train": [], "test": []}
    for n, (c, i) in enumerate((c, i) for c in range(2 * CLASSES) for i in range(3)):
        path = f"chair_final/{c}_{i}.JPG"
        photo(home / path, c, n)
        lines["train" if c < CLASSES else "test"].append(f"{n + 1} {c + 1} 1 {path}")
    for part, rows in lines.items():
        (home / f"Ebay_{part}.txt").write_text("\n".join(["image_id class_id super_class_id path", *rows]))


def inshop(top):
    home, rows = top / "Inshop_Clothes", []
    for c in range(2 * CLASSES):
        for i in range(IMAGES):
            path = f"img/WOMEN/Skirts/id_{c:08d}/0{i}_1_front.jpg"
            photo(home / path, c, i)
            part = "train" if c < CLASSES else ("query", "gallery")[i % 2]
            rows.append(f"{path} id_{c:08d} {part}")
    text = "\n".join([str(len(rows)), "image_name item_id evaluation_status", *rows])
    (home / "Eval").mkdir()
    (home / "Eval" / "list_eval_partition.txt").write_text(text)


def caltech101(top):
    for c in range(CLASSES):
        for i in range(IMAGES):
            photo(top / "101_ObjectCategories" / f"thing{c:02d}" / f"image_{i:04d}.jpg", c, i)


def grocery_store(top):
    home = top / "GroceryStoreDataset" / "dataset"
    classes = [f"Thing{c},{c},Coarse{c % 3},{c % 3},x,y" for c in range(81)]
    head = "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),Iconic,Description"
    home.mkdir(parents=True)
    (home / "classes.csv").write_text("\n".join([head, *classes]))
    for part in ("train", "val", "test"):
        lines = []
        for c in range(30, 52):
            for i in range(2):
                path = f"{part}/Kind/{c}/{c}_{i}.jpg"
                photo(home / path, c, i)
                lines.append(f"{path}, {c}, {c % 3}")
        (home / f"{part}.txt").write_text("\n".join(lines) + "\n")


def fashion_mnist(top):
    folder = top / "fashion_mnist"
    folder.mkdir()
    for name, count in (("train", 60), ("t10k", 40)):
        images = np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for kind, array in (("images", images), ("labels", labels)):
            header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (folder / f"{name}-{kind}-idx{array.ndim}-ubyte").write_bytes(header + array.tobytes())


def drawings(top):
    for part in ("background", "evaluation"):
        for c in range(CLASSES):
            for i in range(20):
                path = top / f"images_{part}" / "Latin" / f"character{c:02d}" / f"{c:04d}_{i:02d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                paper = np.full((105, 105), 255, np.uint8)
                paper[5 * c : 5 * c + 9, 3 * i : 3 * i + 20] = 0
                Image.fromarray(paper).convert("1").save(path)


def own(top):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(80), 3)
    for name in ("features.npz", "omniglot_features.npz"):
        np.savez(top / name, embeddings=rng.normal(size=(240, 12)), labels=labels)
    for c in range(8):
        for i in range(IMAGES):
            photo(top / "my_images" / f"kind {c}" / f"{i}.jpg", c, i)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    top = tmp_path_factory.mktemp("tiny")
    for make in (cub200, cars196, sop, inshop, caltech101, grocery_store, fashion_mnist, drawings, own):
        make(top)
    return top


@pytest.fixture
def small_numbers(monkeypatch):
    """Let sets without partial copies be small."""
    monkeypatch.setattr(omniglot, "PARTS", dict.fromkeys(omniglot.PARTS, CLASSES))
    monkeypatch.setattr(mnist, "HALVES", (("train", 60), ("t10k", 40)))


@cache
def has_timm():
    """Tell whether the extra vision works here: torchvision does not import beside every torch."""
    try:
        return bool(import_module("timm"))
    except (ImportError, RuntimeError):
        return False


def shrunk(recipe: Recipe, root: Path) -> Run:
    """Return a run of the same kind that takes a second: few pixels, few images a batch, one or two epochs."""
    body = recipe.document()
    known = {option.name for option in DATASETS[recipe.dataset["name"]].options}
    data = body["dataset"]
    if "partial" in known:
        data["partial"] = True
    if data.get("image_size", 0) > 32 and "resize" in data:
        data |= {"image_size": 32, "resize": 36}
    if data["name"] == "glyphs":
        data |= {"characters": 20, "images_per_face": 1}
    backbone = body["backbone"]
    if "weights" in backbone:
        backbone["weights"] = None
    if backbone["name"].startswith("resnet") and not has_timm():
        body["backbone"] = {"name": "convnet", "width": 8, "pooling": backbone["pooling"]}
    training = body["training"]
    head_epochs = min(1, training["head_epochs"])
    training |= {"epochs": 1 + head_epochs, "steps": None, "images": None, "head_epochs": head_epochs}
    training["warmup_epochs"] = min(1, training["warmup_epochs"])
    training["augmentation"]["crop_from"] = None
    sampler = training["sampler"]
    if "classes_per_batch" in sampler:
        sampler |= {"classes_per_batch": 4, "images_per_class": min(2, sampler["images_per_class"])}
    if "batch_size" in sampler:
        sampler["batch_size"] = 8
    body["evaluation"]["restarts"] = 1
    return complete(Recipe.model_validate({**body, "data_root": str(root)}), VOCABULARY, [])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(RECIPES)))
def test_every_recipe_is_checked(path):
    assert read_recipe(path, VOCABULARY)


@pytest.mark.e2e
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(RECIPES)))
def test_every_recipe_trains(path, tiny, small_numbers, tmp_path):
    runs = read_recipe(path, VOCABULARY)
    first = [run for run in runs if run.recipe.loss and run.recipe.seed == runs[0].recipe.seed]
    small = {run.run_id: run for run in (shrunk(run.recipe, tiny) for run in first)}
    kinds = [run for run in small.values() if run.recipe.selection.get("fold", 1) == 1]
    assert kinds
    for run in {run.run_id: run for run in (kinds[0], kinds[len(kinds) // 2], kinds[-1])}.values():
        record = execute(run, tmp_path)
        assert record.status == "ok", f"{run.recipe.loss}: {record.reason}"
        assert len(record.curve) == run.recipe.training.epochs and record.metrics


def test_a_recipe_with_a_mistake_is_not_ok(tmp_path):
    text = (RECIPES / "quickstart.yaml").read_text().replace("epochs", "epohcs")
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(RecipeError, match="epohcs"):
        read_recipe(tmp_path / "wrong.yaml", VOCABULARY)


@pytest.mark.parametrize("dim", [64, 512])
@pytest.mark.parametrize("name", ["cub200", "cars196", "sop"])
def test_the_softtriple_recipes_say_what_the_authors_code_says(name, dim):
    """idstcv/SoftTriple at cc1c32d2: train.py, loss/SoftTriple.py, and the options its README passes."""
    runs = read_recipe(RECIPES / "softtriple_paper" / f"{name}_{dim}.yaml", VOCABULARY)
    found = {run.recipe.loss["name"]: run.recipe for run in runs if run.recipe.loss and run.recipe.seed == 0}
    assert set(found) == {"norm_softmax", "softtriple"} and found["norm_softmax"].loss["scale"] == 20
    recipe, large = found["softtriple"], name == "sop"
    expected = {"scale": 20.0, "gamma": 0.1, "margin": 0.01, "regularizer_weight": 0.2, "init": "official"}
    assert recipe.loss == {"name": "softtriple", "centers_per_class": 2 if large else 10, "pooling": "soft", **expected}
    assert (recipe.dataset["image_size"], recipe.dataset["resize"], recipe.normalize) == (224, 256, "caffe")
    assert (recipe.backbone["name"], recipe.backbone["pooling"], recipe.embedding.dim) == ("bn_inception", "mean", dim)
    training = recipe.training
    assert training.sampler == {"name": "random", "batch_size": 32, "drop_last": False}
    adam = {"lr": 1e-4, "weight_decay": 1e-4, "eps": 0.01, "beta1": 0.9, "beta2": 0.999}
    assert training.optimizer == {"name": "adam", **adam}
    assert (training.centers.lr, training.centers.weight_decay) == (0.1 if large else 0.01, 1e-4)
    assert training.freeze == ([] if large else ["batch_norm"])
    crops = training.augmentation
    assert crops.crop == "resized" and crops.crop_scale == [0.08, 1.0] and crops.flip
    assert recipe.selection == {"name": "last"}
    schedule = SCHEDULES.build("step", training.epochs, milestones=[19, 39], gamma=0.1)
    assert training.schedule == {"name": "step", "milestones": [19, 39], "gamma": 0.1}
    assert training.schedule_by == "epoch" and training.epochs == 50
    rates = []
    for epoch in range(50):  # adjust_learning_rate, called before each epoch counted from 0
        rates.append((rates[-1] if rates else 1.0) * (0.1 if (epoch + 1) % 20 == 0 else 1.0))
    assert [schedule(epoch) for epoch in range(50)] == pytest.approx(rates)
    assert [rates.count(rate) for rate in sorted(set(rates), reverse=True)] == [19, 20, 11]
