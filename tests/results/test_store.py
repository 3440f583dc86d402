import json
import os

import pytest

from dml_bench.errors import ResultsError
from dml_bench.results.lease import Lease
from dml_bench.results.record import Epoch, RunRecord
from dml_bench.results.store import find_run, forget, prepare, publishing, read_runs, stamp


def record(seed=0, **changes):
    fields = {
        "recipe_name": "r", "recipe_id": "0123456789ab", "protocol_id": "p", "seed": seed, "dataset": "digits",
        "loss": "norm_softmax", "backbone": "convnet", "embedding_dim": 8, "status": "ok",
        "metrics": {"recall@1": 0.5}, "curve": (Epoch(1, 2.0, 0.1, 100.0, 1.0),), "centers_left": (1, 2),
    }  # fmt: skip
    return RunRecord(**(fields | changes))


def publish(folder, item):
    with publishing(folder, item.run_id) as work:
        item.write(work)


def test_a_published_record_reads_back_equal(tmp_path):
    publish(tmp_path, record())
    assert find_run(tmp_path, "0123456789ab-s0") == record()
    assert (tmp_path / "0123456789ab-s0" / "curve.csv").read_text() == (
        "epoch,loss,learning_rate,images_per_second,seconds,waiting,score\n1,2.0,0.1,100.0,1.0,,\n"
    )


def test_nothing_is_published_when_the_block_fails(tmp_path):
    with pytest.raises(KeyboardInterrupt), publishing(tmp_path, "0123456789ab-s0") as work:
        (work / "half").touch()
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == [".work-0123456789ab-s0"]


def test_publishing_again_replaces_the_run_whole(tmp_path):
    publish(tmp_path, record())
    (tmp_path / "0123456789ab-s0" / "extra").touch()
    publish(tmp_path, record(loss="arcface"))
    assert find_run(tmp_path, "0123456789ab-s0").loss == "arcface"
    assert [path.name for path in tmp_path.iterdir()] == ["0123456789ab-s0"]
    assert not (tmp_path / "0123456789ab-s0" / "extra").exists()


def test_prepare_mends_what_was_killed_while_publishing(tmp_path):
    for name in (".work-0123456789ab-s1", ".work-notes", ".old-mail", ".old-x-s0"):
        (tmp_path / name).mkdir()
    publish(tmp_path, record())
    (tmp_path / "0123456789ab-s0").rename(tmp_path / ".old-0123456789ab-s0")  # killed while replacing a run
    prepare(tmp_path)
    kept = [".work-0123456789ab-s1", ".work-notes", ".old-mail", ".old-x-s0", "0123456789ab-s0"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match="file/runs: cannot write here: Not a directory"):
        prepare(tmp_path / "file" / "runs")


def test_runs_are_found_below_folders_and_hidden_ones_are_not(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        publish(tmp_path / folder, record())
    hidden = tmp_path / ".work-0123456789ab-s9"
    hidden.mkdir()
    record().write(hidden)
    assert len(read_runs([tmp_path])) == 2
    assert len(read_runs([tmp_path, tmp_path / "a"])) == 2


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"schema": 2}', '{"schema": 1, "curve": [], "centers_left": []}']
)
def test_a_broken_record_names_itself(text, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "record.json").write_text(text)
    with pytest.raises(ResultsError, match="run/record.json: not a readable run record"):
        read_runs([tmp_path])


@pytest.mark.parametrize(
    "change", [{"metrics": None}, {"metrics": {"nmi": "x"}}, {"status": "weird"}, {"curve": ["x"]}, {"seconds": None}]
)
def test_a_field_of_the_wrong_kind_is_an_error(change, tmp_path):
    publish(tmp_path, record())
    path = tmp_path / "0123456789ab-s0" / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ResultsError, match=next(iter(change))):
        read_runs([tmp_path])


def test_a_run_folder_without_its_record_is_an_error(tmp_path):
    publish(tmp_path, record())
    publish(tmp_path, record(seed=1))
    (tmp_path / "0123456789ab-s1" / "record.json").unlink()
    with pytest.raises(ResultsError, match=r"ab-s1: a run without its record.json"):
        read_runs([tmp_path])


def test_an_unknown_field_is_an_error(tmp_path):
    publish(tmp_path, record())
    path = tmp_path / "0123456789ab-s0" / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": 1}))
    with pytest.raises(ResultsError, match="colour"):
        read_runs([tmp_path])


def test_missing_and_empty_folders_are_errors(tmp_path):
    with pytest.raises(ResultsError, match="no such folder of runs"):
        read_runs([tmp_path / "none"])
    with pytest.raises(ResultsError, match="no published run in it"):
        read_runs([tmp_path])


def test_a_folder_that_vanishes_is_a_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match="0123456789ab-s0: the run cannot be published: Not a directory"):
        publish(tmp_path / "file", record())


def test_hidden_folders_of_finished_runs_go_and_others_stay(tmp_path):
    failed = {"status": "failed", "metrics": {}}
    publish(tmp_path, record())
    publish(tmp_path, record(seed=1, **failed, reason="diverged: x"))
    publish(tmp_path, record(seed=2, **failed, reason="died: killed", died=True))
    publish(tmp_path, record(seed=3, **failed, reason="timed out: x"))
    publish(tmp_path, record(seed=4))
    for seed in range(6):
        (tmp_path / f".work-0123456789ab-s{seed}").mkdir()
    (tmp_path / ".lost-0123456789ab-s0").mkdir()
    (tmp_path / ".lease-0123456789ab-s0-3").touch()
    os.utime(tmp_path / ".lease-0123456789ab-s0-3", (0, 0))
    with Lease(tmp_path, "0123456789ab-s4"):
        prepare(tmp_path)
        kept = sorted(path.name[-1] for path in tmp_path.glob(".work-*"))
        assert kept == ["2", "3", "4", "5"]  # may go on; held; not published
        forget(tmp_path, "0123456789ab-s4")
        forget(tmp_path, "0123456789ab-s5")
        assert sorted(path.name[-1] for path in tmp_path.glob(".work-*")) == ["2", "3", "4"]
    assert not list(tmp_path.glob(".l*"))


def test_every_publication_has_another_stamp(tmp_path):
    assert stamp(tmp_path, "0123456789ab-s0") == 0
    publish(tmp_path, record())
    first = stamp(tmp_path, "0123456789ab-s0")
    publish(tmp_path, record())
    assert 0 != stamp(tmp_path, "0123456789ab-s0") != first
