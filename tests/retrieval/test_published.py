import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from dml_bench.errors import DataError, ResultsError
from dml_bench.results.store import read_runs
from dml_bench.retrieval.published import data_of, file_names, files_tested, find_one, open_run, stored
from dml_bench.retrieval.search import read_queries


def test_a_file_of_the_test_set_is_embedded_as_it_was_when_it_was_measured(photo_run, photos):
    run, kept = open_run(photo_run), stored(photo_run).embeddings
    names = files_tested(photo_run)
    assert len(names) == len(kept) == 24
    found = run.embed(read_queries(run, [photos / name for name in names]))
    np.testing.assert_array_equal(found, kept)
    one = run.embed(read_queries(run, [photos / names[5]]))
    np.testing.assert_allclose(one[0], kept[5], rtol=0, atol=1e-6)


def test_so_is_a_grey_one_of_queries_and_gallery(asked_run, photos):
    run, kept = open_run(asked_run), stored(asked_run)
    assert run.image_shape == (16, 16, 1) and kept.query is not None
    files = [photos / name for name in files_tested(asked_run)]
    np.testing.assert_array_equal(run.embed(read_queries(run, files)), kept.embeddings)


@pytest.mark.parametrize("place", [0, 1])
def test_so_are_digits_under_the_references(digit_runs, place, tmp_path):
    from PIL import Image

    record = digit_runs[place]
    image = data_of(record).test.images[3]
    Image.fromarray(image[:, :, 0]).save(tmp_path / "digit.png")
    run = open_run(record)
    found = run.embed(read_queries(run, [tmp_path / "digit.png"]))
    np.testing.assert_allclose(found[0], stored(record).embeddings[3], rtol=0, atol=1e-6)


def test_one_run_is_found_by_folder_loss_recipe_or_run(photo_run, digit_runs):
    folder = photo_run.folder.parent
    assert find_one(folder).run_id == find_one(photo_run.folder).run_id == photo_run.run_id
    many = digit_runs[0].folder.parent
    for name in (digit_runs[1].recipe_id, digit_runs[1].run_id, digit_runs[1].loss):
        assert find_one(many, name).run_id == digit_runs[1].run_id


def test_several_runs_none_and_failed_ones_are_refused(digit_runs, photo_run, tmp_path):
    many = digit_runs[0].folder.parent
    with pytest.raises(ResultsError, match="names 2 runs, and must name one, as .*:RUN_ID: ") as told:
        find_one(many)
    assert all(f"{run.run_id} ({run.loss})" in str(told.value) for run in digit_runs)
    with pytest.raises(ResultsError, match="arcface: names no run"):
        find_one(many, "arcface")
    failed = shutil.copytree(photo_run.folder, tmp_path / photo_run.folder.name)
    values = json.loads((failed / "record.json").read_text()) | {"status": "failed", "reason": "diverged: nan"}
    (failed / "record.json").write_text(json.dumps(values))
    with pytest.raises(ResultsError, match="the run failed, so there is no network: diverged: nan"):
        find_one(failed)


def test_a_run_without_its_network_is_named(photo_run, tmp_path):
    shutil.copytree(photo_run.folder, tmp_path / "run")
    (tmp_path / "run" / "checkpoint.pt").unlink()
    (record,) = read_runs([tmp_path])
    with pytest.raises(ResultsError, match=r"checkpoint\.pt: not there"):
        open_run(record)


def test_other_data_than_the_run_was_measured_on_are_refused(photo_run):
    other = replace(photo_run, data={**photo_run.data, "digest": "0" * 64}, folder=photo_run.folder)
    with pytest.raises(DataError, match="the data here are not those that .* was measured on"):
        data_of(other)


def test_names_are_files_or_else_places(photo_run, asked_run, digit_runs):
    rows = np.array([2, 0])
    assert file_names(files_tested(photo_run), rows) == ["class 4/2 ü.png", "class 4/0 ü.png"]
    assert files_tested(asked_run)[:2] == ("class 4/0 ü.png", "class 4/1 ü.png")
    assert file_names(files_tested(digit_runs[0]), rows) == ["test image 2", "test image 0"]
