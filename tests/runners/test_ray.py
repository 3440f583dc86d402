"""Runs on a Ray cluster of this machine's own, whose nodes are killed in the middle."""

import logging

import numpy as np
import pytest

pytest.importorskip("ray", reason="ray is not installed (extra ray)")

from dml_bench.errors import DmlBenchError
from dml_bench.flow import VOCABULARY
from dml_bench.recipe.reader import read_recipe
from dml_bench.results.lease import Lease
from dml_bench.results.store import find_run
from dml_bench.runners.local import run
from dml_bench.runners.plan import Plan
from dml_bench.runners.ray import run_on_ray

pytestmark = pytest.mark.e2e

STORE = 80 * 2**20
RECIPE = {
    "dataset": "digits",
    "loss": "norm_softmax",
    "training": {"epochs": 8, "sampler": {"name": "pxk", "classes_per_batch": 5, "images_per_class": 8}},
    "evaluation": {"metrics": ["recall@1"]},
    "references": False,
}


@pytest.fixture(scope="module")
def cluster():
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE})
    ray.init(nodes.address, log_to_driver=False, logging_level=logging.ERROR)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def worker(cluster):
    """The node that all runs go to."""
    return next(iter(cluster.worker_nodes), None) or cluster.add_node(num_cpus=1, object_store_memory=STORE)


def on_ray(grid, **how):
    return run_on_ray(grid, grid.runs, replaces=grid.stamps(), checkpoint_every=5, **how)


def embeddings(folder):
    with np.load(folder / "embeddings.npz") as stored:
        return stored["embeddings"].tobytes()


def test_a_run_whose_node_is_killed_goes_on_elsewhere_and_is_published_once(cluster, tmp_path):
    runs = read_recipe({**RECIPE, "seeds": [0, 1]}, VOCABULARY)
    first = worker(cluster)
    events, killed = [], None
    for item, event in on_ray(Plan(tuple(runs), tmp_path / "ray"), ship_data=True):
        events.append((item.run_id, event))
        if event["event"] == "step" and not killed and list(tmp_path.glob(f"ray/.work-{item.run_id}/checkpoint-*")):
            killed = item.run_id
            cluster.add_node(num_cpus=1, object_store_memory=STORE)
            cluster.remove_node(first, allow_graceful=False)
    lost = [run_id for run_id, event in events if event["event"] == "warning" and "lost" in event["line"]]
    assert lost.count(killed) == 1  # the other may have waited on the same node
    assert sorted(run_id for run_id, event in events if event["event"] == "done") == sorted(i.run_id for i in runs)
    assert sorted(path.name for path in (tmp_path / "ray").iterdir()) == sorted(item.run_id for item in runs)
    for record in run({**RECIPE, "seeds": [0, 1]}, out=tmp_path / "local"):
        found = find_run(tmp_path / "ray", record.run_id)
        assert (found.status, found.metrics) == ("ok", record.metrics)
        assert [epoch.loss for epoch in found.curve] == [epoch.loss for epoch in record.curve]
        assert embeddings(tmp_path / "ray" / record.run_id) == embeddings(tmp_path / "local" / record.run_id)
        assert found.attempts == (2 if record.run_id == killed else 1)
        assert (found.resumed_from > 0) == (record.run_id == killed)


def test_a_run_that_fails_is_a_record_and_one_that_no_node_can_take_is_an_error(cluster, tmp_path):
    worker(cluster)
    fails = {**RECIPE, "training": {**RECIPE["training"], "optimizer": {"name": "sgd", "lr": 1e30}}}
    runs = [*read_recipe(fails, VOCABULARY), *read_recipe(RECIPE, VOCABULARY)]
    done = {i.run_id: e["status"] for i, e in on_ray(Plan(tuple(runs), tmp_path)) if e["event"] == "done"}
    assert [done[item.run_id] for item in runs] == ["failed", "ok"]
    large = read_recipe({**RECIPE, "resources": {"num_gpus": 0.5}}, VOCABULARY)
    assert large[0].run_id == runs[1].run_id  # resources are no part of the id
    with pytest.raises(DmlBenchError, match=r"no node of the cluster has 1 CPU and 0\.5 GPU"):
        list(on_ray(Plan(tuple(large), tmp_path / "large")))


def test_an_address_where_nobody_listens_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    runs = read_recipe(RECIPE, VOCABULARY)
    with pytest.raises(DmlBenchError, match="nobody answers"):
        list(on_ray(Plan(tuple(runs), tmp_path), address="127.0.0.1:1"))


def test_what_another_command_holds_is_left_to_it(cluster, tmp_path):
    worker(cluster)
    grid = Plan(tuple(read_recipe({**RECIPE, "seeds": [0, 1]}, VOCABULARY)), tmp_path)
    lease, done = Lease(tmp_path, grid.runs[0].run_id), []
    lease.__enter__()
    for item, event in on_ray(grid):
        if event["event"] == "done":
            done.append((item.recipe.seed, event.get("elsewhere", False)))
            if item.recipe.seed == 1:
                lease.__exit__(None, None, None)
    assert done == [(1, False), (0, False)]
