import csv
import pickle
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dml_bench.data import array_files
from dml_bench.data.embedding_files import read_embeddings, share_labels
from dml_bench.errors import DataError

X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
Y = np.array([30, 4, 4, 30, 5, 5])
QUERY = np.array([1, 1, 0, 0, 0, 0], bool)
GALLERY = np.array([0, 1, 1, 1, 0, 0], bool)
NAMES = ("4", "5", "30")
CODES = [2, 0, 0, 2, 1, 1]


def frame(**extra):
    return pd.DataFrame({"label": Y, "path": [f"ü b,{i}.jpg" for i in range(6)], "b": X[:, 0], "a": X[:, 1], **extra})


def assert_read(file, embeddings=X):
    np.testing.assert_array_equal(file.embeddings, embeddings)
    assert file.label_names == NAMES
    assert file.labels.tolist() == CODES


def refused(path, *words, **options):
    with pytest.raises(DataError) as caught:
        read_embeddings(path, **options)
    for word in (path.name, *words):
        assert str(word) in str(caught.value)
    return str(caught.value)


# Files made elsewhere


def test_npz_with_every_part_is_mapped(tmp_path):
    path = tmp_path / "all.npz"
    np.savez(path, embeddings=X, labels=Y, query=QUERY, gallery=GALLERY.astype(int), paths=list("abcdef"), noise=X)
    file = read_embeddings(path)
    assert_read(file)
    assert isinstance(file.embeddings, np.memmap)
    assert file.query.tolist() == QUERY.tolist()
    assert file.gallery.tolist() == GALLERY.tolist()
    assert file.paths == tuple("abcdef")


def test_a_run_folder_is_read_as_it_is(tmp_path):
    path = tmp_path / "embeddings.npz"
    np.savez(path, embeddings=X, labels=Y)
    assert_read(read_embeddings(path))


def test_compressed_npz(tmp_path):
    np.savez_compressed(tmp_path / "c.npz", embeddings=X, labels=Y)
    assert_read(read_embeddings(tmp_path / "c.npz"))


@pytest.mark.parametrize("dtype", [">f4", "<f8", "f2", ">i8", "u1", "i1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_any_real_type_and_order(tmp_path, dtype, order):
    values = np.asarray(np.round(np.abs(X) * 9), dtype=dtype, order=order)
    np.save(tmp_path / "x.npy", values)
    np.save(tmp_path / "y.npy", Y.astype(">i4"))
    file = read_embeddings(tmp_path / "x.npy", labels=tmp_path / "y.npy")
    assert_read(file, values)
    assert file.embeddings.dtype.isnative
    assert isinstance(file.embeddings, np.memmap) or not values.dtype.isnative


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8])
@pytest.mark.parametrize("zipped", [True, False])
def test_pt_of_any_real_type(tmp_path, dtype, zipped):
    x = torch.from_numpy(X * 9).to(dtype)
    parts = {"embeddings": x, "labels": torch.from_numpy(Y), "query": torch.from_numpy(QUERY)}
    parts |= {"gallery": torch.from_numpy(GALLERY), "paths": list("abcdef"), "epoch": 3}
    torch.save(parts, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    file = read_embeddings(tmp_path / "x.pt")
    assert_read(file, x.double().numpy())
    assert file.paths == tuple("abcdef")
    if dtype == torch.bfloat16:
        assert file.embeddings.dtype == np.float32


def test_lone_tensors_in_pth(tmp_path):
    torch.save(torch.nn.Parameter(torch.from_numpy(X)), tmp_path / "x.pth")
    torch.save(Y.tolist(), tmp_path / "y.pt")
    assert_read(read_embeddings(tmp_path / "x.pth", labels=tmp_path / "y.pt"))


@pytest.mark.parametrize(("suffix", "separator"), [("csv", ","), ("tsv", "\t")])
def test_delimited_of_pandas(tmp_path, suffix, separator):
    path = tmp_path / f"x.{suffix.upper()}"
    frame(split=["query", "both", "gallery", "gallery", "none", "none"]).to_csv(path, sep=separator, index=False)
    file = read_embeddings(path)
    assert_read(file, pd.DataFrame(X[:, :2]).astype(str).astype(float).to_numpy())
    assert file.query.tolist() == QUERY.tolist()
    assert file.gallery.tolist() == GALLERY.tolist()
    assert file.paths[0] == "ü b,0.jpg"


def test_the_split_column_can_have_any_name(tmp_path):
    frame(role=["query"] * 3 + ["gallery"] * 3, split="train").to_csv(tmp_path / "x.csv", index=False)
    assert read_embeddings(tmp_path / "x.csv", split_column="role").query.tolist() == [True] * 3 + [False] * 3
    frame(split="train").to_csv(tmp_path / "train.csv", index=False)
    refused(tmp_path / "train.csv", "no row is in the query")
    refused(tmp_path / "x.csv", "no split column 'fold'", "'role'", split_column="fold")


@pytest.mark.parametrize("labels", [Y, Y.astype(str), pd.Categorical(Y.astype(str)), Y.astype(float)])
def test_parquet(tmp_path, labels):
    pytest.importorskip("pyarrow")
    frame(split=["query"] * 3 + ["gallery"] * 3).assign(label=labels).to_parquet(tmp_path / "wide.parquet")
    file = read_embeddings(tmp_path / "wide.parquet")
    assert_read(file, X[:, :2])
    assert file.query.tolist() == [True] * 3 + [False] * 3
    pd.DataFrame({"label": labels, "embedding": list(X)}).to_parquet(tmp_path / "list.parquet")
    assert_read(read_embeddings(tmp_path / "list.parquet"))


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(tmp_path / "x.parquet", "dml-bench[parquet]")


LABEL_FILES = {
    "y.npy": lambda path: np.save(path, Y),
    "y.npz": lambda path: np.savez(path, labels=Y.astype(np.float32)),
    "y.pt": lambda path: torch.save({"labels": torch.from_numpy(Y)}, path),
    "y.csv": lambda path: pd.DataFrame({"file": "a", "label": Y}).to_csv(path, index=False),
    "one.csv": lambda path: pd.DataFrame({"class": Y}).to_csv(path, index=False),
    "y.txt": lambda path: path.write_text("\n".join(map(str, Y)) + "\n\n"),
    "floats.txt": lambda path: np.savetxt(path, Y),
    "bytes.npy": lambda path: np.save(path, Y.astype("S")),
    "text.npy": lambda path: np.save(path, Y.astype(str)),
}


@pytest.mark.parametrize("name", LABEL_FILES)
def test_a_file_of_labels_says_the_same_in_any_format_and_wins(tmp_path, name):
    LABEL_FILES[name](tmp_path / name)
    np.savez(tmp_path / "x.npz", embeddings=X, labels=np.arange(6))
    assert_read(read_embeddings(tmp_path / "x.npz", labels=tmp_path / name))


def test_names_of_classes_keep_what_is_not_a_number(tmp_path):
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "y.txt").write_text("007\n7\nNA\nälg, stor\nNone\n10\n", encoding="utf-8")
    file = read_embeddings(tmp_path / "x.npy", labels=tmp_path / "y.txt")
    assert [file.label_names[code] for code in file.labels] == ["007", "7", "NA", "älg, stor", "None", "10"]


def test_two_files_share_their_labels(tmp_path):
    np.savez(tmp_path / "a.npz", embeddings=X, labels=Y)
    np.savez(tmp_path / "b.npz", embeddings=X[:3], labels=["30", "b", "7"])
    one, other = share_labels(read_embeddings(tmp_path / "a.npz"), read_embeddings(tmp_path / "b.npz"))
    assert one.label_names == other.label_names == ("4", "5", "7", "30", "b")
    assert one.labels.tolist() == [3, 0, 0, 3, 1, 1]
    assert other.labels.tolist() == [3, 4, 2]


# Round trips


REAL = st.sampled_from([np.float16, np.float32, np.float64, np.int8, np.uint8, np.int64])
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=5)
TABLES = REAL.flatmap(lambda dtype: hnp.arrays(dtype, SHAPES))
WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\0"), min_size=1, max_size=5)


@settings(deadline=None, max_examples=60)
@given(x=TABLES, packed=st.booleans(), data=st.data())
def test_npz_and_npy_give_back_every_bit(tmp_path_factory, x, packed, data):
    folder = tmp_path_factory.mktemp("round")
    labels = data.draw(hnp.arrays(np.int64, len(x)))
    (np.savez_compressed if packed else np.savez)(folder / "x.npz", embeddings=x, labels=labels)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", labels)
    for file in read_embeddings(folder / "x.npz"), read_embeddings(folder / "x.npy", labels=folder / "y.npy"):
        assert file.embeddings.tobytes() == x.tobytes()
        assert file.embeddings.dtype == x.dtype
        assert [int(file.label_names[code]) for code in file.labels] == labels.tolist()
        assert [int(name) for name in file.label_names] == sorted(set(labels.tolist()))


@settings(deadline=None, max_examples=60)
@given(x=hnp.arrays(np.float64, SHAPES, elements=st.floats(allow_nan=False)), data=st.data())
def test_csv_gives_back_every_number_and_name(tmp_path_factory, x, data):
    path = tmp_path_factory.mktemp("round") / "x.csv"
    names = [f"c{word.strip()}" for word in data.draw(st.lists(WORDS, min_size=len(x), max_size=len(x)))]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows(
            [
                ["label", *map(str, range(x.shape[1]))],
                *([name, *row] for name, row in zip(names, x.tolist(), strict=True)),
            ]
        )
    read = read_embeddings(path)
    np.testing.assert_array_equal(read.embeddings, x)
    assert [read.label_names[code] for code in read.labels] == names


@settings(deadline=None, max_examples=150)
@given(suffix=st.sampled_from(["npy", "npz", "pt", "csv", "parquet"]), data=st.data())
def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path_factory, suffix, data):
    folder = tmp_path_factory.mktemp("damage")
    path = folder / f"x.{suffix}"
    np.save(folder / "y.npy", Y)
    write(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        file = read_embeddings(path, labels=folder / "y.npy")
    except DataError as error:
        assert path.name in str(error) or "y.npy" in str(error)
    else:
        assert len(file.embeddings) == len(file.labels)


def write(path):
    if path.suffix == ".npy":
        np.save(path, X)
    elif path.suffix == ".npz":
        np.savez(path, embeddings=X, labels=Y)
    elif path.suffix == ".pt":
        torch.save({"embeddings": torch.from_numpy(X), "labels": torch.from_numpy(Y)}, path)
    elif path.suffix == ".csv":
        frame().to_csv(path, index=False)
    else:
        pytest.importorskip("pyarrow")
        frame().to_parquet(path)


# Hostile files


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_bomb_in_pt_does_not_go_off(tmp_path, zipped):
    torch.save({"embeddings": Bomb(tmp_path / "hit")}, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    message = refused(tmp_path / "x.pt", "nothing in it was executed", "a dict of tensors")
    assert "weights_only=False" not in message
    assert not (tmp_path / "hit").exists()


@pytest.mark.parametrize("suffix", ["npy", "npz", "pt", "csv", "parquet"])
def test_a_bomb_under_another_name_does_not_go_off(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "hit")))
    refused(path)
    assert not (tmp_path / "hit").exists()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_bomb_among_objects_does_not_go_off(tmp_path, save):
    objects = np.array([Bomb(tmp_path / "hit")], object)
    np.save(tmp_path / "x.npy", objects, allow_pickle=True)
    save(tmp_path / "x.npz", embeddings=X, labels=objects)
    refused(tmp_path / "x.npy", "Python objects")
    refused(tmp_path / "x.npz", "labels.npy", "Python objects")
    assert not (tmp_path / "hit").exists()


def header(shape, dtype="<f8"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize("shape", [(2**62, 8), (10**9, 10**9), (7, 2), (-1, 8)])
def test_a_header_that_claims_more_than_is_there(tmp_path, shape):
    content = header(shape) + bytes(96)
    (tmp_path / "x.npy").write_bytes(content)
    refused(tmp_path / "x.npy", "cut short", shape)
    for method in zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED:
        with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as archive:
            archive.writestr("embeddings.npy", content)
        refused(tmp_path / "x.npz", "cut short", shape)


def test_a_small_archive_of_very_many_zeros(tmp_path, monkeypatch):
    monkeypatch.setattr(array_files, "LARGE", 10**6)
    np.savez_compressed(tmp_path / "x.npz", embeddings=np.zeros((10**4, 20)), labels=np.zeros(10**4))
    refused(tmp_path / "x.npz", "bytes that unpack to 1600128")


def test_a_tensor_that_repeats_one_number(tmp_path):
    torch.save({"embeddings": torch.zeros(1).expand(10**12, 8)}, tmp_path / "x.pt")
    refused(tmp_path / "x.pt", "claims shape (1000000000000, 8)")


@pytest.mark.parametrize("suffix", ["npy", "npz", "pt", "parquet"])
def test_cut_short_anywhere(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    write(path)
    content = path.read_bytes()
    for length in (1, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        refused(path)


def test_a_flipped_bit_in_npz_is_found(tmp_path):
    np.savez(tmp_path / "x.npz", embeddings=X, labels=Y)
    content = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(content.replace(X.tobytes(), (X + 1).tobytes()))
    refused(tmp_path / "x.npz", "CRC")


# Broken files


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"features": X, "y": Y}, ["features, y", "embeddings, labels, query, gallery, train, paths"]),
        ({"embeddings": X}, ["no labels", "a key 'labels'", "--labels FILE"]),
        ({"labels": Y}, ["no 'embeddings'", "labels"]),
        ({"embeddings": X[0], "labels": Y}, ["shape (3,)"]),
        ({"embeddings": X[None], "labels": Y}, ["shape (1, 6, 3)"]),
        ({"embeddings": X[:0], "labels": Y[:0]}, ["shape (0, 3)"]),
        ({"embeddings": X + 0j, "labels": Y}, ["complex64", "real numbers"]),
        ({"embeddings": X > 0, "labels": Y}, ["bool", "real numbers"]),
        ({"embeddings": X.astype(str), "labels": Y}, ["<U", "real numbers"]),
        ({"embeddings": X, "labels": Y[:5]}, ["shape (5,)", "allowed: (6,)"]),
        ({"embeddings": X, "labels": Y[:, None]}, ["shape (6, 1)"]),
        ({"embeddings": X, "labels": [0, 1, 2, np.nan, 1, 1]}, ["row 3 has label nan"]),
        ({"embeddings": X, "labels": Y + 0.5}, ["row 0 has label 30.5", "whole numbers"]),
        ({"embeddings": X, "labels": Y * 1e300}, ["row 0 has label 3e+301"]),
        ({"embeddings": X, "labels": Y > 4}, ["labels hold bool"]),
        ({"embeddings": X, "labels": ["a", "", "b", "b", "a", "a"]}, ["row 1 has no label"]),
        ({"embeddings": X, "labels": np.array([b"\xff"] * 6)}, ["not UTF-8"]),
        ({"embeddings": X, "labels": Y, "query": QUERY}, ["'query' alone"]),
        ({"embeddings": X, "labels": Y, "query": [0, 2], "gallery": [1, 3]}, ["query", "not a list of row numbers"]),
        ({"embeddings": X, "labels": Y, "query": QUERY * 2, "gallery": GALLERY}, ["query", "1 and 0"]),
        ({"embeddings": X, "labels": Y, "query": QUERY, "gallery": GALLERY * 0.5}, ["gallery is float64"]),
        ({"embeddings": X, "labels": Y, "query": QUERY, "gallery": ~(Y > 0)}, ["no row is in the gallery"]),
        ({"embeddings": X, "labels": Y, "paths": ["a"]}, ["paths"]),
        ({"embeddings": X, "labels": Y, "paths": Y}, ["paths"]),
    ],
)
def test_parts_that_do_not_fit(tmp_path, parts, words):
    np.savez(tmp_path / "x.npz", **parts)
    refused(tmp_path / "x.npz", *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("label,a\nx,1\ny,2,3\n", ["x.csv:3", "3 cells", "2"]),
        ("label,a\nx,1\ny\n", ["x.csv:3", "1 cells"]),
        ("label,a,b\nx,1,2\ny,3,red\n", ["x.csv:3", "'b' says 'red'", "every column is a dimension"]),
        ("label,a\nx,1\ny,\n", ["x.csv:3", "'a' says ''"]),
        ("label,a\nx,1_0\n", ["x.csv:2", "'a' says '1_0'"]),
        ("label,a,a\nx,1,2\n", ["more than one", "'a'"]),
        (",label,a\n0,x,1\n", ["column 1 has no name", "index=False"]),
        ("Unnamed: 0,label,a\n0,x,1\n", ["column 1 has no name"]),
        ("label,path\nx,a\n", ["no column of numbers", "'label', 'path'"]),
        ("a,b\n1,2\n", ["no labels", "a column 'label'"]),
        ("label,a\n", ["shape (0, 1)"]),
        ("label,a\n,1\n", ["row 0 has no label"]),
        ("label,a,split\nx,1,query\ny,2,tset\n", ["'split' says 'tset'", "query, gallery, both, test, train"]),
        ("\n\n", ["empty"]),
        ('label,a\n"x,1\n', ["x.csv"]),
        ("label,a\nx,1\0\n", ["x.csv"]),
    ],
)
def test_tables_that_do_not_fit(tmp_path, text, words):
    (tmp_path / "x.csv").write_text(text)
    refused(tmp_path / "x.csv", *words)


def test_a_table_in_another_encoding(tmp_path):
    (tmp_path / "x.csv").write_bytes("label,a\nälg,1\n".encode("latin-1"))
    refused(tmp_path / "x.csv", "utf-8")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"embedding": [[1.0], [1.0, 2.0]]}, ["row 1", "2 numbers"]),
        ({"embedding": [[1.0], None]}, ["row 1", "not a list of numbers"]),
        ({"embedding": [[[1.0]], [[2.0]]]}, ["row 0", "not a list of numbers"]),
        ({"colour": ["red", "blue"], "a": [1, 2]}, ["'colour'", "not numbers"]),
        ({"flag": [True, False]}, ["'flag'", "bool"]),
        ({"label": ["a", None], "a": [1, 2]}, ["row 1 has no label"]),
        ({"label": [1, None], "a": [1, 2]}, ["row 1 has no label"]),
    ],
)
def test_parquet_that_does_not_fit(tmp_path, columns, words):
    pytest.importorskip("pyarrow")
    pd.DataFrame({"label": ["x", "y"], **columns}).to_parquet(tmp_path / "x.parquet")
    refused(tmp_path / "x.parquet", *words)


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({"embeddings": torch.zeros(2, 2).to_sparse()}, ["sparse", "dense"]),
        ({"embeddings": "text"}, ["is a str"]),
        ({"embeddings": [[1.0], [2.0]], "labels": [1, 2]}, ["embeddings"]),
        ({"embeddings": torch.zeros(2, 2), "labels": [1, "a"]}, ["row 1 has label 'a'"]),
        ({"embeddings": torch.zeros(2, 2), "labels": [torch.tensor(1), torch.tensor(2)]}, ["row 0 has label"]),
        ({"embeddings": torch.zeros(2, 2), "labels": [None, 1]}, ["row 0 has no label"]),
        ({"embeddings": torch.zeros(2, 2).cfloat(), "labels": [1, 1]}, ["complex64"]),
        ({"state_dict": {}}, ["state_dict", "embeddings, labels"]),
        ({"embeddings": X}, ["torch.from_numpy"]),
    ],
)
def test_pt_that_does_not_fit(tmp_path, held, words):
    torch.save(held, tmp_path / "x.pt")
    refused(tmp_path / "x.pt", *words)


def test_no_such_file_a_folder_an_empty_file_and_another_kind(tmp_path):
    refused(tmp_path / "x.npz", "no such file")
    (tmp_path / "folder.npz").mkdir()
    refused(tmp_path / "folder.npz", "not a file")
    (tmp_path / "x.pkl").write_bytes(b"x")
    refused(tmp_path / "x.pkl", "'.pkl'", ".npz, .npy, .pt, .pth, .csv, .tsv, .parquet")
    for suffix in "npz", "npy", "pt", "csv", "parquet":
        (tmp_path / f"none.{suffix}").touch()
        refused(tmp_path / f"none.{suffix}", "the file is empty")


def test_what_is_wrong_with_a_file_of_labels_names_that_file(tmp_path):
    np.save(tmp_path / "x.npy", X)
    refused(tmp_path / "x.npy", "no labels", "--labels FILE")
    refused(tmp_path / "x.npy", "no columns", split_column="split")
    for name, text, word in [
        ("y.txt", "1\n\n2\n3\n4\n5\n", "row 1 has no label"),
        ("y.txt", "1\n2\n", "allowed: (6,)"),
        ("one.csv", "\n".join("123456"), "the first line of a table is its header"),
        ("y.csv", "a,b\n1,2\n", "no column 'label'"),
        ("y.json", "[]", ".npy, .npz, .pt, .pth, .csv, .tsv, .txt"),
        ("nan.txt", "1\n2\nnan\n3\n4\n5\n", "row 2 has label nan"),
    ]:
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError) as caught:
            read_embeddings(tmp_path / "x.npy", labels=tmp_path / name)
        assert name in str(caught.value)
        assert word in str(caught.value)
