"""Runs on a Ray cluster of this machine's own, whose nodes are killed in the middle."""

import logging

import pytest

pytest.importorskip("ray")

from dml_bench.errors import DmlBenchError
from dml_bench.flow import VOCABULARY
from dml_bench.recipe.reader import read_recipe
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


@pytest.fixture
def cluster():
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE})
    ray.init(nodes.address, log_to_driver=False, logging_level=logging.ERROR)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def test_a_run_whose_node_is_killed_is_done_on_another_and_published_once(cluster, tmp_path):
    runs = read_recipe({**RECIPE, "seeds": [0, 1]}, VOCABULARY)
    first = cluster.add_node(num_cpus=1, object_store_memory=STORE)
    events, killed = [], False
    for item, event in run_on_ray(Plan(tuple(runs), tmp_path), runs, ship_data=True):
        events.append((item.recipe.seed, event))
        if event["event"] == "step" and not killed:
            killed = True
            cluster.add_node(num_cpus=1, object_store_memory=STORE)
            cluster.remove_node(first, allow_graceful=False)
    assert [event["phase"][:5] for _, event in events if event["event"] == "phase"].count("lost:") == 1
    assert sorted(seed for seed, event in events if event["event"] == "done") == [0, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(item.run_id for item in runs)
    for record in run({**RECIPE, "seeds": [0, 1]}, out=tmp_path / "local"):
        found = find_run(tmp_path, record.run_id)
        assert (found.status, found.metrics) == ("ok", record.metrics)
        assert [epoch.loss for epoch in found.curve] == [epoch.loss for epoch in record.curve]


def test_a_run_that_fails_is_a_record_and_one_that_no_node_can_take_is_an_error(cluster, tmp_path):
    cluster.add_node(num_cpus=1, object_store_memory=STORE)
    fails = {**RECIPE, "training": {**RECIPE["training"], "optimizer": {"name": "sgd", "lr": 1e30}}}
    runs = [*read_recipe(fails, VOCABULARY), *read_recipe(RECIPE, VOCABULARY)]
    done = {i.run_id: e["status"] for i, e in run_on_ray(Plan(tuple(runs), tmp_path), runs) if e["event"] == "done"}
    assert [done[item.run_id] for item in runs] == ["failed", "ok"]
    large = read_recipe({**RECIPE, "resources": {"num_gpus": 0.5}}, VOCABULARY)
    assert large[0].run_id == runs[1].run_id  # resources are no part of the id
    with pytest.raises(DmlBenchError, match=r"no node of the cluster has 1 CPU and 0\.5 GPU"):
        list(run_on_ray(Plan(tuple(large), tmp_path), large))


def test_an_address_where_nobody_listens_is_an_error(tmp_path):
    runs = read_recipe(RECIPE, VOCABULARY)
    with pytest.raises(DmlBenchError, match="nobody answers"):
        list(run_on_ray(Plan(tuple(runs), tmp_path), runs, address="127.0.0.1:1"))
