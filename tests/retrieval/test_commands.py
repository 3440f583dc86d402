"""``dml-bench retrieve``, ``export`` and the galleries of ``report``: what is printed, written and refused."""

import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from dml_bench.cli import app
from dml_bench.errors import DmlBenchError
from dml_bench.retrieval.published import data_of, stored


def command(*words):
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def refused(*words):
    """Return what a command says that ends with 2."""
    done = CliRunner().invoke(app, list(map(str, words)))
    assert isinstance(done.exception, DmlBenchError), (done.output, done.exception)
    assert done.exception.exit_code == 2
    return str(done.exception)


def lines(text, query):
    """Return rank, file, class and value of what was found for a query."""
    _, _, rest = text.partition(f"{query}:\n")
    found = [line.split("  ") for line in rest.splitlines()[1:]]
    rows = [[part.strip() for part in parts if part.strip()] for parts in found]
    return rows[: next((i for i, row in enumerate(rows) if len(row) != 4), len(rows))]


def ordered(record, file):
    """Return the test images by their similarity to one of them, computed plainly."""
    rows = stored(record).embeddings.astype(float)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    near = rows @ rows[file]
    return np.argsort(-near), np.sort(-near) * -1


def test_an_image_of_the_test_set_finds_itself_and_then_its_neighbors(photo_run, photos):
    query = photos / "class 5" / "2 ü.png"
    text = command("retrieve", photo_run.folder, "--query", query, "-k", 5)
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))[24:]
    order, near = ordered(photo_run, names.index("class 5/2 ü.png"))
    expected = [(names[row], names[row].split("/")[0]) for row in order[:5]]
    found = lines(text, query)
    assert [(file, label) for _, file, label, _ in found] == expected
    assert found[0][1] == "class 5/2 ü.png"
    assert [float(value) for *_, value in found] == pytest.approx(near[:5].tolist(), abs=1e-4)
    assert "Each image: rgb, short side resized to 18 pixels, central 16 x 16 cut out" in text


def test_of_queries_and_gallery_the_gallery_is_searched(asked_run, photos):
    query = photos / "class 6" / "0 ü.png"
    found = lines(command("retrieve", asked_run.folder, "--query", query, "-k", 12), query)
    assert sorted(file for _, file, *_ in found) == sorted(
        f"class {c}/{i} ü.png" for c in range(4, 8) for i in (3, 4, 5)
    )
    assert "must be from 1 to 12" in refused("retrieve", asked_run.folder, "--query", query, "-k", 13)


def test_a_folder_of_ones_own_is_searched_with_all_below_it(photo_run, photos, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(photos / "class 4", own / "shoes" / "red")
    shutil.copytree(photos / "class 5", own / "bags")
    (own / "bags" / "notes.txt").write_text("no image")
    queries = [photos / "class 4" / "1 ü.png", photos / "class 5" / "1 ü.png"]
    words = [word for query in queries for word in ("--query", query)]
    text = command(
        "retrieve", photo_run.folder, *words, "--gallery", own, "-k", 12, "-o", tmp_path / "new" / "out.html"
    )
    assert f"12 images: {own}" in text
    for query, name, label in zip(queries, ("shoes/red/1 ü.png", "bags/1 ü.png"), ("shoes/red", "bags"), strict=True):
        first, *_ = found = lines(text, query)
        assert first == ["1", name, label, "1.0000"] and len(found) == 12
    page = (tmp_path / "new" / "out.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 2 * (1 + 12) and page.count("shoes/red") == 2 * 2 * 6


def test_a_flat_folder_has_no_classes(photo_run, photos):
    query = photos / "class 5" / "0 ü.png"
    text = command("retrieve", photo_run.folder, "--query", query, "--gallery", photos / "class 5", "-k", 1)
    assert lines(text, query) == [["1", "0 ü.png", "-", "1.0000"]]


@pytest.mark.parametrize("suffix", ["png", "svg", "PDF"])
def test_a_picture_is_written(photo_run, photos, tmp_path, suffix):
    command(
        "retrieve", photo_run.folder, "--query", photos / "class 5" / "0 ü.png", "-k", 2, "-o", tmp_path / f"x.{suffix}"
    )
    begin = {"png": b"\x89PNG", "svg": b"<?xml", "PDF": b"%PDF"}[suffix]
    assert (tmp_path / f"x.{suffix}").read_bytes().startswith(begin)


def test_digits_are_named_by_their_place(digit_runs, tmp_path):
    folder, run = digit_runs[0].folder.parent, digit_runs[0]
    image = data_of(run).test.images[40]
    Image.fromarray(image[:, :, 0]).save(tmp_path / "seven.png")
    text = command("retrieve", f"{folder}:{run.run_id}", "--query", tmp_path / "seven.png", "-k", 1)
    assert lines(text, tmp_path / "seven.png")[0][1] == "test image 40"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--query", "nowhere.png"], "nowhere.png: cannot be read: No such file or directory"),
        (["--query", "{text}"], "words.png: not a readable image: no image of a known kind"),
        (["--query", "{query}", "-k", "0"], "-k 0: must be from 1 to 24, the images of the gallery"),
        (["--query", "{query}", "-k", "25"], "-k 25: must be from 1 to 24"),
        (["--query", "{query}", "-o", "x.gif"], "-o x.gif: must end in .png, .svg, .pdf, .html"),
        (["--query", "{query}", "-o", "{run}/x.png"], "lies in the published run"),
        (["--query", "{query}", "-o", "{query}/x.png"], "x.png: cannot be written: "),
        (["--query", "{query}", "--gallery", "nowhere"], "nowhere: cannot be read: there is no such file or folder"),
        (["--query", "{query}", "--gallery", "{empty}"], "there is no image in it; names must end in .jpg"),
        (["--query", "{query}", "--gallery", "{mixed}"], "mixed/words.png: not a readable image"),
    ],
)
def test_mistakes_are_told_from_each_other(photo_run, photos, tmp_path, words, said):
    (tmp_path / "mixed").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed" / "words.png").write_text("words")
    places = {
        "query": photos / "class 4" / "0 ü.png",
        "text": tmp_path / "mixed" / "words.png",
        "run": photo_run.folder,
    }
    places |= {name: tmp_path / name for name in ("mixed", "empty")}
    assert said in refused("retrieve", photo_run.folder, *(word.format(**places) for word in words))


def test_all_images_that_cannot_be_read_are_named_at_once(photo_run, photos, tmp_path):
    query = photos / "class 4" / "0 ü.png"
    shutil.copytree(photos / "class 5", tmp_path / "own" / "good")
    for number in range(2):
        (tmp_path / "own" / f"bad{number:02}.png").write_text("words")
    said = refused("retrieve", photo_run.folder, "--query", query, "--gallery", tmp_path / "own").splitlines()
    assert said[0] == f"{tmp_path / 'own'}: 2 of 8 images cannot be read:"
    assert said[1:] == [
        f"{tmp_path / 'own' / name}: not a readable image: no image of a known kind"
        for name in ("bad00.png", "bad01.png")
    ]
    for number in range(2, 13):
        (tmp_path / "own" / f"bad{number:02}.png").write_text("words")
    said = refused("retrieve", photo_run.folder, "--query", query, "--gallery", tmp_path / "own").splitlines()
    assert said[0].endswith("13 of 19 images cannot be read:") and len(said) == 12
    assert "bad09.png: not a readable image" in said[10] and said[11] == "and 3 more"


def test_runs_that_cannot_search_images_say_why(feature_run, digit_runs, photos, tmp_path):
    query = photos / "class 4" / "0 ü.png"
    assert "embeddings: was run on features" in refused("retrieve", feature_run.folder, "--query", query)
    assert "names 2 runs, and must name one" in refused("retrieve", digit_runs[0].folder.parent, "--query", query)
    assert "no such folder of runs" in refused("retrieve", tmp_path / "none", "--query", query)
    shutil.copytree(digit_runs[0].folder, tmp_path / "run")
    (tmp_path / "run" / "checkpoint.pt").unlink()
    assert "checkpoint.pt: not there" in refused("retrieve", tmp_path / "run", "--query", query)
    assert "checkpoint.pt: not there" in refused("export", tmp_path / "run", "-f", "safetensors")
    (tmp_path / "run" / "embeddings.npz").unlink()
    assert "embeddings.npz" in refused("export", tmp_path / "run", "-f", "npz")


def test_export_writes_what_evaluate_reads_and_says_how(asked_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = command("export", asked_run.folder, "-f", "npz")
    name = f"{asked_run.run_id}.npz"
    assert text.startswith(f"{name}: ") and f'np.load("{name}")' in text
    scores = command("evaluate", name, "--metrics", "recall@1,map@r", "--format", "csv").splitlines()
    found = dict(zip(scores[0].split(","), scores[1].split(","), strict=True))
    for metric in ("recall@1", "map@r"):
        assert float(found[metric]) == pytest.approx(asked_run.metrics[metric])
    assert "lies in the published run" in refused(
        "export", asked_run.folder, "-f", "npz", "-o", asked_run.folder / "x.npz"
    )


def test_export_says_how_far_onnx_is_off_or_that_nobody_looked(photo_run, tmp_path, monkeypatch):
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module)
    from dml_bench.retrieval import network

    out = tmp_path / "deep" / "run.onnx"
    assert "bytes, opset 18, largest difference " in command("export", photo_run.folder, "-f", "onnx", "-o", out)
    monkeypatch.setattr(network, "difference", lambda run, content: None)
    assert "not checked, as onnxruntime is not installed" in command(
        "export", photo_run.folder, "-f", "onnx", "-o", out
    )


def test_a_report_has_galleries_unless_they_are_left_out(photo_run, tmp_path):
    command("report", photo_run.folder.parent, "-o", tmp_path)
    assert (tmp_path / "gallery.png").read_bytes()[:4] == b"\x89PNG" and (tmp_path / "gallery.svg").exists()
    command("report", photo_run.folder.parent, "-o", tmp_path, "--no-galleries")
    assert not list(tmp_path.glob("gallery*"))


def test_a_report_without_the_data_says_so_and_goes_on(photo_run, photos, tmp_path):
    shutil.copytree(photo_run.folder.parent, tmp_path / "runs")
    record = tmp_path / "runs" / photo_run.run_id / "record.json"
    record.write_text(record.read_text().replace(str(photos), str(tmp_path / "gone")))
    text = command("report", tmp_path / "runs", "-o", tmp_path / "report")
    assert "No gallery of folder: path: there is no " in text
    assert (tmp_path / "report" / "dots.png").exists() and not list((tmp_path / "report").glob("gallery*"))
