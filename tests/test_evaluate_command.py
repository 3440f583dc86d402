"""``dml-bench evaluate``: options, formats, files written, and errors in one line."""

import csv
import io
import json
import os
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from dml_bench.cli import app, main
from dml_bench.evaluation.evaluate import evaluate

RNG = np.random.default_rng(0)
NAMES = np.array(["wren", "robin", "jay", "crow"])
Y = np.arange(40) % 4
X = (np.eye(4)[Y] + 0.6 * RNG.standard_normal((40, 4))).astype(np.float32)
ASKS = np.arange(40) < 16
PATHS = [f"{i:02}.jpg" for i in range(40)]
RECALL = ["--metrics", "recall@1,map@r", "--format", "json"]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "all.npz"
    np.savez(path, embeddings=X, labels=NAMES[Y], paths=PATHS)
    return path


def command(*words):
    done = CliRunner().invoke(app, ["evaluate", *map(str, words)])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def metrics(*words):
    return json.loads(command(*words, *RECALL))["metrics"]


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def expected(**options):
    return dict(evaluate(X, Y, ["recall@1", "map@r"], **options))


def test_formats_say_the_same(file):
    asked = ["--metrics", "recall@1,nmi,map@r", "--restarts", "2"]
    found = json.loads(command(file, *asked, "--format", "json"))
    whole = evaluate(X, np.unique(NAMES[Y], return_inverse=True)[1], ["recall@1", "nmi", "map@r"], restarts=2)
    assert found["metrics"] == pytest.approx(dict(whole))
    assert (found["queries"], found["singletons"], found["gallery"]) == (40, 0, 40)
    (row,) = rows(command(file, *asked, "--format", "csv"))
    assert {name: float(row[name]) for name in found["metrics"]} == found["metrics"]
    table = command(file, *asked)
    assert f"{found['metrics']['recall@1']:.4f}" in table
    assert "40 x 4 embeddings in" in table


def test_a_value_that_does_not_exist_is_null_or_empty(file):
    assert json.loads(command(file, "--metrics", "nmi", "--format", "json"))["metrics"]["nmi_restart_std"] is None
    assert rows(command(file, "--metrics", "nmi", "--format", "csv"))[0]["nmi_restart_std"] == ""


@pytest.mark.parametrize("suffix", ["npz", "npy", "pt", "csv", "tsv", "parquet"])
def test_every_kind_of_file_scores_alike(tmp_path, suffix):
    path, labels = tmp_path / f"x.{suffix}", tmp_path / "y.txt"
    labels.write_text("\n".join(NAMES[Y]))
    frame = pd.DataFrame({"label": NAMES[Y], **{f"d{i}": X[:, i] for i in range(4)}})
    if suffix == "npz":
        np.savez_compressed(path, embeddings=X, labels=Y)
    elif suffix == "npy":
        np.save(path, np.asfortranarray(X.astype(">f4")))
    elif suffix == "pt":
        torch.save({"embeddings": torch.from_numpy(X), "labels": torch.from_numpy(Y)}, path)
    elif suffix == "parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    assert metrics(path, *(["--labels", labels] if suffix == "npy" else [])) == pytest.approx(expected())


@pytest.mark.parametrize(
    "words",
    [
        ("--engine", "faiss"),
        ("--engine", "torch"),
        ("--precision", "float64"),
        ("--engine", "faiss", "--precision", "float64"),
        ("--memory", "64MiB"),
        ("--device", "cpu"),
        ("--seed", "3"),
    ],
)
def test_options_that_change_no_rank(file, words):
    assert metrics(file, *words) == pytest.approx(expected())


def test_distance_matters(file):
    assert metrics(file, "--distance", "euclidean") == pytest.approx(expected(distance="euclidean"))
    assert expected(distance="euclidean") != expected()


def test_masks_of_a_file_and_a_split_column_say_who_asks(tmp_path):
    masked, table = tmp_path / "masked.npz", tmp_path / "table.csv"
    np.savez(masked, embeddings=X, labels=Y, query=ASKS, gallery=~ASKS)
    frame = pd.DataFrame(
        {"label": Y, "part": np.where(ASKS, "query", "gallery"), **{f"d{i}": X[:, i] for i in range(4)}}
    )
    frame.to_csv(table, index=False)
    want = expected(query=ASKS, gallery=~ASKS)
    assert metrics(masked) == pytest.approx(want)
    assert metrics(table, "--split-column", "part") == pytest.approx(want)


def test_a_gallery_may_name_other_classes_in_another_order(tmp_path):
    asked, held, out = tmp_path / "q.npz", tmp_path / "g.npy", tmp_path / "deep" / "q.csv"
    np.savez(asked, embeddings=X[ASKS], labels=NAMES[Y[ASKS]], paths=PATHS[:16])
    np.save(held, np.concatenate([X[~ASKS], X[ASKS]]))
    labels = tmp_path / "g.txt"
    labels.write_text("\n".join([*NAMES[Y[~ASKS]], *["albatross"] * 16]))
    words = [asked, "--gallery", held, "--gallery-labels", labels, "--per-query", out]
    found = json.loads(command(*words, *RECALL))
    assert found["metrics"]["recall@1"] == 0.0  # a copy of each query is a distractor
    assert (found["queries"], found["gallery"]) == (16, 40)
    written = rows(out.read_text())
    assert [row["path"] for row in written] == PATHS[:16]
    assert [row["label"] for row in written] == NAMES[Y[ASKS]].tolist()


def test_every_query_and_class_is_written_by_its_name(file, tmp_path):
    one, other = tmp_path / "q.csv", tmp_path / "c.csv"
    found = metrics(file, "--per-query", one, "--per-class", other)
    queries, classes = rows(one.read_text()), rows(other.read_text())
    assert [row["path"] for row in queries] == PATHS
    assert [row["label"] for row in queries] == NAMES[Y].tolist()
    assert [row["label"] for row in classes] == sorted(NAMES)
    assert np.mean([float(row["map@r"]) for row in queries]) == pytest.approx(found["map@r"])
    for row in classes:
        own = [float(q["recall@1"]) for q in queries if q["label"] == row["label"]]
        assert (float(row["recall@1"]), int(row["queries"])) == (pytest.approx(np.mean(own)), len(own))


@pytest.mark.parametrize("folds", [False, True])
def test_pairs_are_verified(file, tmp_path, folds):
    pairs = tmp_path / "pairs.csv"
    first, second = RNG.integers(0, 40, (2, 200))
    frame = pd.DataFrame({"first": first, "second": second, "same": (Y[first] == Y[second]).astype(int)})
    if folds:
        frame["fold"] = np.arange(200) % 10
    frame.to_csv(pairs, index=False)
    found = json.loads(command(file, "--pairs", pairs, "--metrics", "roc_auc,eer", "--format", "json"))["metrics"]
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    scores, same = (unit[first] * unit[second]).sum(axis=1), Y[first] == Y[second]
    wins = (scores[same][:, None] > scores[~same]).mean()
    assert found["roc_auc"] == pytest.approx(wins, abs=1e-3)
    assert 0 <= found["eer"] <= 1


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def broken(name):
    """Write a file that must be refused."""
    if name == "bomb.pt":
        torch.save({"embeddings": Bomb(), "labels": torch.from_numpy(Y)}, name)
    elif name == "objects.npy":
        np.save(name, np.array([[Bomb()]], dtype=object), allow_pickle=True)
    elif name == "nan.npz":
        np.savez(name, embeddings=np.where(np.arange(40)[:, None] == 7, np.nan, X), labels=Y)
    elif name == "half.npz":
        np.savez(name, embeddings=X, labels=Y, query=ASKS)
    elif name == "short.npz":
        np.savez(name, embeddings=X, labels=Y[1:])
    elif name == "masked.npz":
        np.savez(name, embeddings=X, labels=Y, query=ASKS, gallery=~ASKS)
    elif name == "good.npz":
        np.savez(name, embeddings=X, labels=Y)
    return name


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("missing.npz", (), "missing.npz: no such file"),
        ("bomb.pt", (), "nothing in it was executed"),
        ("objects.npy", ("--labels", "good.npz"), "Python objects, which are never loaded"),
        ("nan.npz", (), "1 of 40 rows hold NaN or infinity; the first is row 7"),
        ("half.npz", (), "has the mask 'query' alone"),
        ("short.npz", (), "labels have shape (39,); allowed: (40,)"),
        ("good.npz", ("--metrics", "recal@1"), "did you mean 'recall@1'"),
        ("good.npz", ("--metrics", ""), "names no metric"),
        ("good.npz", ("--memory", "1KB"), "at least 64MiB"),
        ("good.npz", ("--device", "gpu"), "must be auto, cpu, cuda"),
        ("good.npz", ("--split-column", "part"), "has no columns"),
        ("good.npz", ("--gallery", "missing.npz"), "missing.npz: no such file"),
        ("good.npz", ("--pairs", "missing.csv"), "missing.csv"),
        ("good.npz", ("--pairs", "pairs.csv"), "no metric that was asked for compares pairs"),
        ("good.npz", ("--gallery-labels", "good.npz"), "of no use without --gallery"),
        ("masked.npz", ("--gallery", "good.npz"), "masked.npz: says itself who is query and gallery"),
        (
            "good.npz",
            ("--metrics", "nmi", "--per-query", "out.csv"),
            "no metric that was asked for has a value per query",
        ),
        ("good.npz", ("--metrics", "recall@1", "--per-query", "good.npz/out.csv"), "cannot be written"),
    ],
)
def test_mistakes_end_with_2_and_one_line(tmp_path, monkeypatch, capfd, name, words, message):
    monkeypatch.chdir(tmp_path)
    broken("good.npz")
    (tmp_path / "pairs.csv").write_text("first,second,same\n0,1,0\n0,4,1\n")
    monkeypatch.setattr(sys, "argv", ["dml-bench", "evaluate", broken(name), *words])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capfd.readouterr()
    assert ended.value.code == 2
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("dml-bench:")]
    assert len(lines) == 1
    assert message in lines[0]
    assert lines[0] == err.strip().splitlines()[-1]
    assert "Traceback" not in err
    assert not (tmp_path / "exploded").exists()
