"""MNIST, Fashion-MNIST and CIFAR: tiny files in the official formats, and what must not be read."""

import contextlib
import gzip
import hashlib
import os
import pickle
import struct
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dml_bench.data import cifar, mnist
from dml_bench.data.cifar import load_plain
from dml_bench.data.dataset import DATASETS
from dml_bench.data.mnist import read_idx
from dml_bench.data.samplers import build_sampler
from dml_bench.errors import DataError

RNG = np.random.default_rng(0)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def digits(monkeypatch):
    """Twenty training and ten test images, two and one of each digit."""
    monkeypatch.setattr(mnist, "HALVES", (("train", 20), ("t10k", 10)))
    halves = {}
    for name, count in mnist.HALVES:
        halves[name] = RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8), np.arange(count, dtype=np.uint8) % 10
    return halves


def write_idx(folder, halves, ending="", dot="-"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, arrays in halves.items():
        for kind, array in zip(("images", "labels"), arrays, strict=True):
            data = idx(array)
            path = folder / f"{name}-{kind}{dot}idx{array.ndim}-ubyte{ending}"
            path.write_bytes(gzip.compress(data, mtime=0) if ending else data)


@pytest.mark.parametrize(("name", "place"), [("mnist", "MNIST/raw"), ("fashion_mnist", "fashion_mnist")])
@pytest.mark.parametrize(("ending", "dot"), [("", "-"), (".gz", "-"), ("", ".")])
def test_idx_sets(tmp_path, digits, name, place, ending, dot):
    write_idx(tmp_path / place, digits, ending, dot)
    split = DATASETS.build(name, tmp_path)
    images = np.concatenate([digits["train"][0], digits["t10k"][0]])
    labels = np.concatenate([digits["train"][1], digits["t10k"][1]])
    np.testing.assert_array_equal(split.train.images[..., 0], images[labels < 5])
    np.testing.assert_array_equal(split.test.images[..., 0], images[labels >= 5])
    assert split.test.labels.tolist() == (labels[labels >= 5] - 5).tolist()
    closed = DATASETS.build(name, tmp_path, split="official_closed")
    np.testing.assert_array_equal(closed.test.images[..., 0], digits["t10k"][0])
    assert closed.train.num_classes == closed.test.num_classes == 10
    assert closed.digest != split.digest


def test_other_sizes(tmp_path, digits):
    write_idx(tmp_path, digits)
    split = DATASETS.build("mnist", tmp_path, image_size=14)
    assert split.train.image_shape == (14, 14, 1)
    whole = digits["train"][0][0].astype(float).mean()
    assert split.train.images[0].mean() == pytest.approx(whole, abs=6)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"404 Not Found", "not an IDX file"),
        (lambda data: b"", "not an IDX file"),
        (lambda data: data[:-1], "must hold 15,680 bytes after its header, but 15,679 follow"),
        (lambda data: data + b"x", "must hold 15,680 bytes after its header, but 15,681 follow"),
        (lambda data: gzip.compress(data)[:-9], "cannot be read"),
        (lambda data: idx(np.zeros((20, 27, 28), dtype=np.uint8)), r"must hold \(20, 28, 28\), not \(20, 27, 28\)"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path, digits, damage, message):
    write_idx(tmp_path, digits)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=rf"train-images-idx3-ubyte: {message}"):
        DATASETS.build("mnist", tmp_path)


def test_a_missing_idx_file_is_named(tmp_path, digits):
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\(\.gz\) is in none of"):
        DATASETS.build("mnist", tmp_path)
    write_idx(tmp_path, digits)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\(\.gz\): there is no such file"):
        DATASETS.build("mnist", tmp_path)


def test_an_idx_file_that_expands_without_end_is_refused(tmp_path):
    bomb = tmp_path / "train-images-idx3-ubyte.gz"
    zeros = gzip.compress(bytes(1 << 20))
    with bomb.open("wb") as file:
        file.write(gzip.compress(bytes([0, 0, 8, 1, 0x40, 0, 0, 0])))
        file.writelines([zeros] * 1024)  # members of one gzip file: 1 GiB in all, as its header says
    tracemalloc.start()
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: holds more than 67,108,864 bytes"):
        read_idx(bomb)
    assert tracemalloc.get_traced_memory()[1] < 4 * mnist.LARGEST
    tracemalloc.stop()


@given(st.binary(max_size=60))
def test_whatever_the_bytes_an_idx_file_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("idx") / "noise"
    path.write_bytes(b"\0\0\x08" + data)
    try:
        assert read_idx(path).size <= len(data)
    except DataError as error:
        assert "noise" in str(error)


def test_the_real_garments(data_root):
    folder = data_root / "fashion_mnist"
    sums = ["8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe"]
    files = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
    assert [hashlib.md5((folder / name).read_bytes()).hexdigest() for name in files] == sums
    split = DATASETS.build("fashion_mnist", data_root)
    assert split.train.class_counts.tolist() == split.test.class_counts.tolist() == [7000] * 5
    closed = DATASETS.build("fashion_mnist", data_root, split="official_closed")
    assert closed.train.class_counts.tolist() == [6000] * 10
    assert closed.test.class_counts.tolist() == [1000] * 10
    assert split.digest == DATASETS.build("fashion_mnist", data_root).digest


def batch(count, **more):
    return {"data": RNG.integers(0, 256, (count, 3072), dtype=np.uint8), **more}


@pytest.fixture
def tiny(monkeypatch):
    """CIFAR with 2 images a class and batch, and 1 to test."""
    real = cifar._half

    def half(source, names, key, classes, count):
        return real(source, names, key, classes, {50_000: 100, 10_000: 10}[count] if classes == 10 else count // 250)

    monkeypatch.setattr(cifar, "_half", half)


def cifar10_files(protocol=2):
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    labels = list(range(10))
    content = {f"data_batch_{i}": batch(20, labels=labels * 2, batch_label="x") for i in range(1, 6)}
    content |= {"test_batch": batch(10, labels=labels), "batches.meta": {"label_names": names, "num_vis": 3072}}
    return content, {f"cifar-10-batches-py/{n}": pickle.dumps(value, protocol) for n, value in content.items()}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("packed", [True, False])
def test_cifar10(tmp_path, files, tiny, protocol, packed):
    content, tree = cifar10_files(protocol)
    files.pack(tmp_path / "cifar-10-python.tar.gz", tree) if packed else files.write(tmp_path, tree)
    split = DATASETS.build("cifar10", tmp_path)
    assert (len(split.train), len(split.test)) == (55, 55)
    assert split.test.class_names == ("dog", "frog", "horse", "ship", "truck")
    first = content["data_batch_1"]["data"][0].reshape(3, 32, 32)
    np.testing.assert_array_equal(split.train.images[0], np.moveaxis(first, 0, 2))
    assert DATASETS.build("cifar10", tmp_path, split="official_closed").train.num_classes == 10


def test_cifar100_has_super_classes(tmp_path, files, tiny):
    fine = list(range(100))
    coarse = [n // 5 for n in fine]
    tree = {"meta": {"fine_label_names": [f"class {n}" for n in fine], "coarse_label_names": []}}
    tree["train"] = batch(200, fine_labels=fine * 2, coarse_labels=coarse * 2)
    tree["test"] = batch(40, fine_labels=fine[30:70], coarse_labels=coarse[30:70])
    files.write(tmp_path, {f"cifar-100-python/{name}": pickle.dumps(value, 4) for name, value in tree.items()})
    split = DATASETS.build("cifar100", tmp_path)
    assert (len(split.train), len(split.test)) == (120, 120)
    assert split.train.groups.tolist() == [coarse[label] for label in split.train.labels]
    assert split.test.groups.tolist() == [coarse[50 + label] for label in split.test.labels]
    batches = {"groups_per_batch": 3, "classes_per_group": 2, "images_per_class": 1}
    assert build_sampler({"name": "hierarchical", **batches}, split.train).batch_size == 6


def python2_pickle(shape, raw, code="u1"):
    """Write an array as Python 2 and numpy 1 did, opcode by opcode, with texts of 8 bits."""
    size = b"".join(b"M" + struct.pack("<H", n) for n in shape)
    dims = b"(" + size + b"t"
    kind = (
        b"cnumpy\ndtype\n(U"
        + bytes([len(code)])
        + code.encode()
        + b"K\0K\1tR(K\3U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    )
    data = b"T" + struct.pack("<I", len(raw)) + raw
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tU\1btR(K\1"
        + dims
        + kind
        + b"\x89"
        + data
        + b"tb"
    )
    return b"\x80\x02}U\4data" + array + b"s."


def test_arrays_pickled_by_python_2_are_read():
    raw = bytes(range(256)) * 3
    found = load_plain(python2_pickle((2, 384), raw), "batch")["data"]
    assert (found.dtype, found.tobytes()) == (np.uint8, raw)
    trusted = pickle.loads(python2_pickle((2, 384), raw), encoding="latin1")["data"]
    np.testing.assert_array_equal(found, trusted)


def test_arrays_of_anything_but_bytes_are_refused():
    with pytest.raises(DataError, match=r"batch: not a readable pickle: an array of 'O8'"):
        load_plain(python2_pickle((1, 1), b"x", code="O8"), "batch")


class Exploit:
    def __init__(self, call, *arguments):
        self.call = call, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "exploit",
    [Exploit(os.system, "touch exploited"), Exploit(eval, "open('exploited', 'w')"), Exploit(getattr, os, "system")],
)
def test_a_pickle_that_calls_anything_is_refused_and_calls_nothing(tmp_path, monkeypatch, exploit, protocol):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"batch: (refused: it asks for|not a readable pickle)"):
        load_plain(
            pickle.dumps({"data": exploit}, protocol) if exploit.call[0] is not getattr else raw_getattr(), "batch"
        )
    assert not list(tmp_path.iterdir())


def raw_getattr():
    return b"cbuiltins\ngetattr\n(cos\nsystem\nS'x'\ntR."


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"404", b"\x80\x04", b"\x80\x04r\xff\xff\xff\x7f.", b"cnumpy\nndarray\n(K\1tR."),
        b"\x80\x04\x95\0\0\0\0\0\0\0\x80",  # a frame of 2 ** 63 bytes
        b"\x80\x04K\0r\xff\xff\xff\x7f.",  # a list of 2 ** 31 things to remember
        b"\x80\x05\x96\0\0\0\0\1\0\0\0.",  # 4 GiB of bytes
        b"\x80\x02})" + b"\x85" * 3_000_000 + b"K\1s.",  # a key too deep to hash
        b"\x80\x04X\xe8\3\0\0" + b"a" * 1000 + b"\x940c_codecs\nencode\n\x940(" + b"h\1h\0\x85R" * 1000 + b"l.",
    ],
)
def test_damaged_pickles_are_named(data):
    with pytest.raises(DataError, match="batch: "):
        load_plain(data, "batch")


def test_a_pickle_changes_nothing_that_the_next_one_uses():
    hook = b"\x80\x02c_codecs\nencode\nN}X\x07\0\0\0changed"
    for build in (b"K\1s\x86b.", b"\x8c\x08__call__K\1s\x86b."):
        with contextlib.suppress(DataError):
            load_plain(hook + build, "batch")
    assert "changed" not in dir(cifar._Array) + dir(cifar._Plain._encode)


def test_a_dictionary_that_holds_itself_is_not_followed():
    found = load_plain(b"\x80\x04}\x94(\x8c\1ah\0\x8c\1bh\0u.", "batch")
    assert set(found) == {"a", "b"}


MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "drop", "insert", "again"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=9),
    ),
    min_size=1,
    max_size=4,
)


def mutated(data, mutations):
    for kind, where, more in mutations:
        at = int(where * len(data))
        end = at + len(more)
        data = {
            "set": data[:at] + more + data[end:],
            "cut": data[:at],
            "drop": data[:at] + data[end:],
            "insert": data[:at] + more + data[at:],
            "again": data[:end] + data[at:],
        }[kind]
    return data


@given(st.sampled_from([0, 2, 4, 5]), MUTATIONS)
@settings(max_examples=150)
def test_a_damaged_batch_is_refused_or_has_the_right_form(protocol, mutations):
    """Aim at the opcodes: the pixels, which anything may stand in, are few."""
    whole = {
        "data": np.arange(6144, dtype=np.uint8).reshape(2, 3072) % 7,
        "fine_labels": [3, 99],
        "coarse_labels": [0, 19],
    }
    data = pickle.dumps(whole, protocol)
    damaged = (
        mutated(data[:90], mutations) + data[90:] if len(mutations) % 2 else data[:-90] + mutated(data[-90:], mutations)
    )
    source = SimpleNamespace(path=Path("set"), stamps={}, strays=(), read=lambda names: [damaged for _ in names])
    try:
        images, labels, coarse = cifar._half(source, ["train"], "fine_labels", 100, 2)
    except DataError as error:
        assert str(error).startswith("set")
    else:
        assert (images.shape, images.dtype) == ((2, 32, 32, 3), np.uint8)
        assert labels.shape == (2,) and labels.dtype == np.int64 and set(labels) <= set(range(100))
        assert coarse is None or set(coarse) <= set(range(20))


@given(MUTATIONS, st.booleans())
def test_a_damaged_idx_file_is_refused_or_has_the_right_form(tmp_path_factory, mutations, packed):
    data = idx(np.arange(60, dtype=np.uint8).reshape(3, 4, 5))
    path = tmp_path_factory.mktemp("idx") / "damaged"
    path.write_bytes(mutated(gzip.compress(data, mtime=0) if packed else data, mutations))
    try:
        assert read_idx(path).dtype == np.uint8
    except DataError as error:
        assert str(error).startswith(str(path))


@given(st.binary(max_size=80))
def test_whatever_the_bytes_a_pickle_is_read_or_refused(data):
    try:
        load_plain(b"\x80\x02" + data, "batch")
    except DataError as error:
        assert "batch" in str(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must hold a dictionary, not a list"),
        (batch(20), "must hold 'data' of 3,072 bytes a row, and a list 'labels'"),
        (batch(20, labels=[0] * 19), "'labels' must be 20 numbers from 0 to 9"),
        (batch(20, labels=[10] * 20), "'labels' must be 20 numbers from 0 to 9"),
        (batch(20, labels=[0] * 20, coarse_labels=3), "'coarse_labels' must be 20 numbers from 0 to 19"),
        (batch(20, labels=[0] * 20, coarse_labels=["x"] * 20), "'coarse_labels' must be 20 numbers from 0 to 19"),
    ],
)
def test_wrong_batches_are_named(tmp_path, files, tiny, content, message):
    _, tree = cifar10_files(4)
    tree["cifar-10-batches-py/data_batch_3"] = pickle.dumps(content, 4)
    with pytest.raises(DataError, match=f"data_batch_3: {message}"):
        DATASETS.build("cifar10", files.write(tmp_path, tree))


def test_cifar_must_be_whole(tmp_path, files):
    with pytest.raises(DataError, match=r"must hold 50,000 images in .*, not 100"):
        DATASETS.build("cifar10", files.write(tmp_path, cifar10_files(4)[1]))
    with pytest.raises(DataError, match=r"cifar-100-python\.tar\.gz or the folder cifar-100-python is in none of"):
        DATASETS.build("cifar100", tmp_path)
