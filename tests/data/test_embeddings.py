import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from dml_bench import run
from dml_bench.cli import app
from dml_bench.data.dataset import DATASETS
from dml_bench.errors import DataError, RecipeError
from dml_bench.flow import VOCABULARY
from dml_bench.recipe.reader import read_recipe


def vectors(classes=8, each=6, dim=5, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    return rng.normal(size=(classes, dim))[labels] + rng.normal(size=(len(labels), dim)), labels


def save(path, **more):
    x, labels = vectors()
    np.savez(path, embeddings=x, labels=labels, **more)
    return x, labels


def load(path, **options):
    return DATASETS.build("embeddings", None, path=str(path), **options)


def test_without_masks_the_first_half_of_the_classes_trains(tmp_path):
    x, labels = save(tmp_path / "x.npz")
    split = load(tmp_path / "x.npz")
    assert np.array_equal(split.train.images, x[labels < 4].astype(np.float32))
    assert np.array_equal(split.test.images, x[labels >= 4].astype(np.float32))
    assert split.train.class_names == ("0", "1", "2", "3") and split.test.class_names == ("4", "5", "6", "7")
    assert split.query is None and split.variant == ()


def test_masks_say_what_trains_and_what_is_asked(tmp_path):
    train = np.arange(48) < 24
    query = np.isin(np.arange(48), [24, 30, 36])
    gallery = (np.arange(48) > 24) & ~query & (np.arange(48) != 47)
    save(tmp_path / "x.npz", train=train, query=query, gallery=gallery)
    split = load(tmp_path / "x.npz")
    assert len(split.train) == 24 and len(split.test) == 23  # row 47 takes no part
    assert split.query.sum() == 3 and split.gallery.sum() == 20 and not (split.query & split.gallery).any()
    save(tmp_path / "alone.npz", train=train)
    assert load(tmp_path / "alone.npz").query is None and len(load(tmp_path / "alone.npz").test) == 24


def test_a_table_says_train_and_test_in_its_split_column(tmp_path):
    x, labels = vectors()
    frame = pd.DataFrame(x).add_prefix("f").assign(label=labels, split=np.where(labels < 3, "train", "test"))
    frame.to_csv(tmp_path / "x.csv", index=False)
    split = load(tmp_path / "x.csv")
    assert split.train.num_classes == 3 and split.test.num_classes == 5
    assert np.array_equal(split.test.images, x[labels >= 3].astype(np.float32))


def test_training_and_test_in_files_of_their_own_share_class_names(tmp_path):
    x, labels = vectors()
    np.savez(tmp_path / "a.npz", embeddings=x[labels < 5], labels=labels[labels < 5])
    np.savez(tmp_path / "b.npz", embeddings=x[labels >= 5], labels=[f"bird {c}" for c in labels[labels >= 5]])
    split = load(tmp_path / "a.npz", test=str(tmp_path / "b.npz"))
    assert split.train.num_classes == 5 and split.test.class_names == ("bird 5", "bird 6", "bird 7")
    assert np.array_equal(split.test.images, x[labels >= 5].astype(np.float32))


def test_a_class_on_both_sides_is_another_protocol_or_refused(tmp_path):
    save(tmp_path / "x.npz", train=np.arange(48) % 2 == 0)
    with pytest.raises(DataError, match="8 classes are to train and to test, such as '0'"):
        load(tmp_path / "x.npz")
    assert load(tmp_path / "x.npz", split="official_closed").variant == ("official_closed",)


@pytest.mark.parametrize(
    ("more", "options", "words"),
    [
        ({}, {"split": "official_closed"}, "needs a mask train"),
        ({"query": np.ones(48, bool), "gallery": np.ones(48, bool)}, {}, "no row is to train"),
        ({"train": np.ones(48, bool)}, {}, "every row is to train"),
        (
            {"train": np.ones(48, bool), "query": np.ones(48, bool), "gallery": np.ones(48, bool)},
            {},
            "row 0 is to train",
        ),
        ({}, {"test": "missing.npz"}, "there is no"),
        (
            {
                "train": np.arange(48) < 24,
                "query": np.isin(np.arange(48), range(24, 36)),
                "gallery": np.arange(48) >= 36,
            },
            {},
            "no class is in the query and in the gallery",
        ),
    ],
)
def test_a_split_that_cannot_be_is_refused(tmp_path, more, options, words):
    save(tmp_path / "x.npz", **more)
    with pytest.raises(DataError, match=words):
        load(tmp_path / "x.npz", **options)


def test_a_number_that_is_not_finite_is_named(tmp_path):
    x, labels = vectors()
    for value in (np.nan, np.inf, 1e300):
        x[17, 3] = value
        np.savez(tmp_path / "x.npz", embeddings=x, labels=labels)
        with pytest.raises(DataError, match=r"x\.npz: row 17"):
            load(tmp_path / "x.npz")


def test_features_are_standardised_each_by_its_own_moments(tmp_path):
    x, labels = vectors(dim=3)
    x[:, 1] = 7.0
    np.savez(tmp_path / "x.npz", embeddings=x * [1, 1, 1e-4], labels=labels)
    mean, std = load(tmp_path / "x.npz").train.moments
    part = (x * [1, 1, 1e-4]).astype(np.float32)[labels < 4].astype(float)
    np.testing.assert_allclose(mean, part.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(std, [part[:, 0].std(), 1.0, part[:, 2].std()], rtol=1e-12)


def recipe(path, **changes):
    short = {"epochs": 3, "sampler": {"name": "pxk", "classes_per_batch": 4, "images_per_class": 4}}
    evaluation = {"metrics": ["recall@1"], "restarts": 1}
    return {
        "dataset": {"name": "embeddings", "path": str(path)},
        "backbone": "mlp",
        "embedding": {"dim": 8},
        "loss": "norm_softmax",
        "training": short,
        "evaluation": evaluation,
        **changes,
    }


def test_losses_are_trained_on_features_beside_the_features_themselves(tmp_path):
    x, labels = save(tmp_path / "x.npz")
    records = run(recipe(tmp_path / "x.npz"), out=tmp_path / "runs", device="cpu")
    assert [record.status for record in records] == ["ok"] * 3
    assert {record.loss for record in records} == {"norm_softmax", "untrained", "raw_features"}
    raw = next(record for record in records if record.loss == "raw_features")
    test = x[labels >= 4].astype(np.float32)
    unit = test / np.linalg.norm(test, axis=1, keepdims=True)
    similar = unit @ unit.T
    np.fill_diagonal(similar, -2)
    hits = labels[labels >= 4][similar.argmax(axis=1)] == labels[labels >= 4]
    assert raw.metrics["recall@1"] == pytest.approx(hits.mean())


def test_what_is_for_images_is_refused_before_any_data_is_read(tmp_path):
    changes = {
        "backbone": "convnet",
        "normalize": "imagenet",
        "training": {"augmentation": {"flip": True}},
    }
    with pytest.raises(RecipeError) as error:
        read_recipe(recipe(tmp_path / "x.npz", **changes), VOCABULARY)
    for words in ("'convnet' needs images", "must be dataset or none", "training.augmentation.flip"):
        assert words in str(error.value)


def test_one_number_changed_is_other_data(tmp_path):
    x, labels = save(tmp_path / "x.npz")
    before = load(tmp_path / "x.npz").digest
    x[40, 2] += 1e-3
    np.savez(tmp_path / "x.npz", embeddings=x, labels=labels)
    assert load(tmp_path / "x.npz").digest != before


def test_the_data_commands_know_that_there_is_no_picture(tmp_path):
    save(tmp_path / "x.npz")
    path = ["--set", f"path={tmp_path / 'x.npz'}"]
    for command, words in (
        ("stats", "5 features an item"),
        ("verify", "ok"),
        ("prepare", "48 items; nothing to decode"),
    ):
        result = CliRunner().invoke(app, ["data", command, "embeddings", *path])
        assert result.exit_code == 0 and words in result.stdout, result.stdout
    with pytest.raises(DataError, match="no images to make a contact sheet of"):
        CliRunner().invoke(
            app, ["data", "stats", "embeddings", *path, "-o", str(tmp_path / "x.png")], catch_exceptions=False
        )
