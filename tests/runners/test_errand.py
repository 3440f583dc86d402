"""What the driver of a cluster does about lost nodes and about others in the same folder; needs no cluster."""

import sys

import pytest

from dml_bench.errors import DmlBenchError
from dml_bench.flow import VOCABULARY
from dml_bench.recipe.reader import read_recipe
from dml_bench.results.lease import living
from dml_bench.results.live import read_live
from dml_bench.results.store import find_run
from dml_bench.runners.cluster import Cluster
from dml_bench.runners.elsewhere import elsewhere
from dml_bench.runners.node import Order, code_digest, perform
from dml_bench.runners.plan import Plan
from dml_bench.runners.pool import Died
from dml_bench.runners.ray import LOSSES, Errand, Held, run_on_ray
from dml_bench.runners.slurm import run_on_slurm
from dml_bench.splits import load_split

RECIPE = {
    "dataset": "digits",
    "loss": "norm_softmax",
    "training": {"epochs": 1, "sampler": {"name": "pxk", "classes_per_batch": 5, "images_per_class": 8}},
    "evaluation": {"metrics": ["recall@1"]},
    "references": False,
}


class Node(Cluster):
    """A cluster of one node that has room for one run."""

    def __init__(self):
        self.orders = []
        self.going = []

    def has_room(self, run):
        return not self.going

    def submit(self, run, attempt, files):
        self.orders.append((attempt, dict(files)))
        self.going.append(run)


class Desk:
    def __init__(self, folder, seeds=(0,)):
        self.grid = Plan(tuple(read_recipe({**RECIPE, "seeds": list(seeds)}, VOCABULARY)), folder)
        self.node, self.held = Node(), Held(folder)
        self.errand = Errand(folder, self.grid.stamps(), self.node, self.held, list(self.grid.runs))

    def begin(self):
        self.errand._looked = -10.0
        return list(self.errand.begin())

    def end(self, outcome):
        return list(self.errand.end(self.node.going.pop(), outcome))


def test_a_run_is_lost_so_often_and_then_recorded_as_died(tmp_path):
    desk = Desk(tmp_path)
    [run] = desk.grid.runs
    for attempt in range(1, LOSSES + 2):
        desk.begin()
        sent = {"attempts": f"{attempt}\n".encode(), f"checkpoint-{attempt}.pt": b"state"}
        kept = [f"checkpoint-{attempt}.pt"]
        assert not list(desk.errand.hear(run, {"event": "files", "files": sent, "kept": kept}))
        [(_, event)] = desk.end(Died("its node is gone", "traceback"))
    assert [attempt for attempt, _ in desk.node.orders] == [1, 2, 3, 4]
    assert desk.node.orders[3][1] == {"attempts": b"3\n", "checkpoint-3.pt": b"state"}
    record = find_run(tmp_path, run.run_id)
    assert (event["event"], record.status, record.died, record.attempts) == ("done", "failed", True, 4)
    assert record.reason == "died: the run's process was lost 4 times; the last time: its node is gone"
    assert run.run_id not in desk.grid.done()  # the next command tries again, from the last checkpoint
    assert (tmp_path / f".work-{run.run_id}" / "checkpoint-4.pt").read_bytes() == b"state"
    assert not desk.errand.waiting
    assert not living(tmp_path)


def test_only_runs_on_the_cluster_are_held_and_their_state_can_be_read(tmp_path):
    desk = Desk(tmp_path, seeds=(0, 1))
    first, second = desk.grid.runs
    desk.begin()
    assert list(living(tmp_path)) == [first.run_id]
    list(desk.errand.hear(first, {"event": "phase", "phase": "train"}))
    assert read_live(tmp_path / f".work-{first.run_id}")["phase"] == "train"
    assert desk.errand.waiting == [second]
    desk.held.close()
    assert not living(tmp_path)


def test_what_somebody_else_took_over_is_not_published_but_waited_for(tmp_path):
    desk = Desk(tmp_path)
    [run] = desk.grid.runs
    desk.begin()
    (tmp_path / f".lease-{run.run_id}-2").write_text("{}")
    assert desk.end({"record.json": b"{}"}) == []
    assert desk.errand.waiting == [run]
    assert find_run(tmp_path, run.run_id) is None


def test_a_node_sends_its_count_of_attempts_and_every_checkpoint(tmp_path):
    [run] = Desk(tmp_path).grid.runs
    told = []
    digest = load_split(run.recipe).digest
    files = perform(Order(run, 1, {}, digest, code_digest(), every=3), told.append)
    sent = [event for event in told if event["event"] == "files"]
    assert list(sent[0]["files"]) == ["attempts"]
    steps = [int(name.split("-")[1]) for event in sent for name in event["files"] if name.startswith("checkpoint")]
    assert steps == sorted(set(steps))
    assert steps[:2] == [3, 6]
    assert {"record.json", "embeddings.npz", "per_query.npz", "log.txt"} <= set(files)
    with pytest.raises(DmlBenchError, match="install the same on every node"):
        perform(Order(run, 1, {}, digest, "other"), told.append)


@pytest.mark.parametrize(("module", "begin"), [("ray", run_on_ray), ("submitit", run_on_slurm)])
def test_a_missing_package_is_named(module, begin, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    grid = Desk(tmp_path).grid
    how = {"parameters": {}} if module == "submitit" else {}
    extra = {"ray": "ray", "submitit": "slurm"}[module]
    with pytest.raises(DmlBenchError, match=rf"pip install 'dml-bench\[{extra}\]'"):
        list(begin(grid, grid.runs, replaces=grid.stamps(), **how))


def test_what_a_cluster_cannot_do_is_refused(monkeypatch):
    given = {"device": "auto", "jobs": None, "address": None, "ship_data": False, "slurm": []}
    with pytest.raises(DmlBenchError, match="--timeout 5: goes with --runner local"):
        elsewhere("ray", **given, timeout=5.0)
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DmlBenchError, match="torchrun"):
        elsewhere("slurm", **given)
