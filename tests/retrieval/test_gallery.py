import shutil

import numpy as np
import pytest

from dml_bench.reports.measured import per_query
from dml_bench.reports.summary import sections
from dml_bench.results.record import RunRecord
from dml_bench.results.store import read_runs
from dml_bench.retrieval.gallery import best_run, chosen, galleries, gathered
from dml_bench.retrieval.published import data_of, stored


def gallery_of(record):
    (section,) = sections([record])
    return gathered(section, record, data_of(record), stored(record))


def cosines(record):
    """Return the similarities of all test items, in float64."""
    rows = stored(record).embeddings.astype(float)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


def row_of(image, part):
    return next(row for row in range(len(part)) if np.array_equal(part.images[row], image))


@pytest.mark.parametrize("name", ["photo_run", "asked_run"])
def test_what_is_shown_is_what_a_plain_loop_finds(name, request):
    record = request.getfixturevalue(name)
    part, file, near = data_of(record).test, stored(record), cosines(record)
    hits = dict(zip(*(per_query(record)[name].tolist() for name in ("query", "recall@1")), strict=True))
    everyone = range(len(part))
    searched = everyone if file.gallery is None else np.flatnonzero(file.gallery).tolist()
    for block in gallery_of(record).blocks:
        assert len(block.answers) == 3
        for answer in block.answers:
            query = row_of(answer.query.image, part)
            assert file.query is None or file.query[query]
            ordered = sorted((row for row in searched if row != query), key=lambda row: -near[query, row])[:8]
            assert [row_of(shown.image, part) for shown in answer.found] == ordered
            assert [shown.right for shown in answer.found] == [
                part.labels[row] == part.labels[query] for row in ordered
            ]
            assert [shown.name for shown in answer.found] == [part.class_names[part.labels[row]] for row in ordered]
            assert answer.found[0].right == bool(hits[query])


def test_the_best_and_the_worst_are_of_different_classes_and_the_random_ones_always_the_same():
    rng = np.random.default_rng(1)
    measured = {"query": np.arange(40), "label": np.arange(40) % 4, "map@r": rng.random(40).round(2)}
    measured["first_hit_rank"] = np.where(measured["map@r"] > 0.5, 1, 9)
    (_, best), (_, worst), (_, some) = chosen(measured)
    for rows, sign in ((best, -1), (worst, 1)):
        assert len({*measured["label"][rows]}) == 3
        expected = sorted(sign * min(sign * measured["map@r"][measured["label"] == c]) for c in range(4))
        assert sorted(sign * measured["map@r"][rows]) == sorted(sign * np.array(expected))[:3]
    assert np.array_equal(chosen(measured)[2][1], some) and len(set(some)) == 3


def test_without_a_mean_over_ranks_the_first_hit_decides():
    measured = {"query": np.arange(4), "label": np.arange(4), "first_hit_rank": np.array([5, 1, 9, 2])}
    (said, best), (_, worst), _ = chosen(measured)
    assert said == "Best by rank of the first hit, one a class"
    assert (best.tolist(), worst.tolist()) == ([1, 3, 0], [2, 0, 3])


def test_pictures_are_the_same_every_time_and_named_by_section(photo_run, asked_run, feature_run):
    told = []
    first = dict(galleries([photo_run, asked_run, feature_run], tell=told.append))
    names = [
        f"gallery-{run.dataset}-{run.protocol_id}.{kind}" for run in (photo_run, asked_run) for kind in ("png", "svg")
    ]
    assert list(first) == names and told == []
    again = dict(galleries([asked_run]))
    assert list(again) == ["gallery.png", "gallery.svg"]
    assert list(again.values()) == list(first.values())[2:]


def test_where_something_is_missing_a_note_says_so_and_the_others_are_drawn(photo_run, asked_run, tmp_path):
    shutil.copytree(asked_run.folder, tmp_path / "run")
    (tmp_path / "run" / "embeddings.npz").unlink()
    (broken,) = read_runs([tmp_path])
    told = []
    assert len(list(galleries([photo_run, broken], tell=told.append))) == 2
    (line,) = told
    assert line.startswith("No gallery of table: ") and "embeddings.npz" in line
    shutil.copy(asked_run.folder / "embeddings.npz", tmp_path / "run")
    (tmp_path / "run" / "per_query.npz").unlink()
    assert list(galleries([broken], tell=told.append)) == []
    assert told[1].endswith("kept no results per query")


def make(loss="arcface", recall=0.5, **changes):
    facts = {
        "recipe_name": "x",
        "protocol_id": "p",
        "seed": 0,
        "dataset": "d",
        "backbone": "convnet",
        "embedding_dim": 4,
    }
    return RunRecord(recipe_id=loss, loss=loss, **{"status": "ok", "metrics": {"recall@1": recall}, **facts, **changes})


def test_the_best_row_is_shown_and_no_failed_run():
    runs = [make("arcface", 0.5), make("softtriple", 0.9), make("untrained", 0.99)]
    assert best_run(sections(runs)[0]).loss == "softtriple"
    assert best_run(sections([make("untrained")])[0]).loss == "untrained"
    assert best_run(sections([make(status="failed", metrics={})])[0]) is None
    assert list(galleries([make(status="failed", metrics={})])) == []
