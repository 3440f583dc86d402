"""Runs as jobs, done by processes of this machine in place of Slurm's."""

import pytest

pytest.importorskip("submitit", reason="submitit is not installed (extra slurm)")

from dml_bench.errors import DmlBenchError
from dml_bench.flow import VOCABULARY
from dml_bench.recipe.reader import read_recipe
from dml_bench.results.store import find_run
from dml_bench.runners.local import run
from dml_bench.runners.plan import Plan
from dml_bench.runners.slurm import run_on_slurm

RECIPE = {
    "dataset": "digits",
    "loss": "norm_softmax",
    "training": {"epochs": 1, "sampler": {"name": "pxk", "classes_per_batch": 5, "images_per_class": 8}},
    "evaluation": {"metrics": ["recall@1"]},
    "references": False,
}


def jobs(folder, recipe=RECIPE, **parameters):
    grid = Plan(tuple(read_recipe(recipe, VOCABULARY)), folder)
    how = {"replaces": grid.stamps(), "parameters": {"cluster": "local", **parameters}, "pause": 0.2}
    return [(item.run_id, event) for item, event in run_on_slurm(grid, grid.runs, **how)]


@pytest.mark.e2e
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_job_does_what_this_machine_does(tmp_path):
    ended = [(run_id, event["status"]) for run_id, event in jobs(tmp_path / "jobs") if event["event"] == "done"]
    [record] = run(RECIPE, out=tmp_path / "local")
    assert ended == [(record.run_id, "ok")]
    assert find_run(tmp_path / "jobs", record.run_id).metrics == record.metrics


def test_mistakes_are_named(tmp_path):
    with pytest.raises(DmlBenchError, match="--runner slurm"):
        jobs(tmp_path, no_such_parameter=3, cluster="slurm")
    with pytest.raises(DmlBenchError, match=r"num_gpus: must be whole for Slurm, not 0.5"):
        jobs(tmp_path, {**RECIPE, "resources": {"num_gpus": 0.5}})
