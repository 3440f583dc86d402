"""What a cluster sets aside for a run is no part of its identity."""

import pytest

from dml_bench.errors import RecipeError
from dml_bench.flow import VOCABULARY
from dml_bench.recipe.reader import read_recipe
from dml_bench.runners.elsewhere import elsewhere
from dml_bench.runners.node import device_of, need_of

RECIPE = {"dataset": "digits", "loss": "arcface", "references": False}


def read(**resources):
    return read_recipe({**RECIPE, "training": {"threads": 2}, "resources": resources}, VOCABULARY)[0]


def test_resources_change_no_id():
    assert read(num_gpus=0.5, num_cpus=3).run_id == read().run_id


def test_a_run_asks_for_its_threads_and_no_gpu_unless_it_says_so():
    assert (need_of(read()), device_of(read())) == ({"CPU": 2.0}, "cpu")
    asked = read(num_gpus=0.5, num_cpus=3)
    assert (need_of(asked), device_of(asked)) == ({"CPU": 3.0, "GPU": 0.5}, "cuda")


@pytest.mark.parametrize("resources", [{"num_gpus": -1}, {"num_cpus": 0}, {"gpus": 1}])
def test_mistakes_are_named(resources):
    with pytest.raises(RecipeError, match=f"resources.{next(iter(resources))}"):
        read(**resources)


def test_resources_are_no_axis():
    with pytest.raises(RecipeError, match="cannot be an axis"):
        read_recipe({**RECIPE, "grid": {"resources.num_gpus": [0, 1]}}, VOCABULARY)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"address": "auto"}, "--address: goes with --runner ray, not local"),
        ({"slurm": ["partition=gpu"]}, "--slurm: goes with --runner slurm, not local"),
        ({"runner": "ray", "jobs": 2}, "--jobs 2: a cluster places runs by the recipe's resources"),
        ({"runner": "slurm", "slurm": ["partition"]}, "--slurm partition: must be KEY=VALUE"),
    ],
)
def test_options_of_another_runner_are_refused(options, message):
    given = {"device": "auto", "jobs": None, "address": None, "ship_data": False, "slurm": []}
    with pytest.raises(Exception, match=message):
        elsewhere(options.pop("runner", "local"), **{**given, **options})
