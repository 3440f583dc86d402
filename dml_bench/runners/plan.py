"""From a recipe to the runs that are still to be done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dml_bench.data.samplers import SAMPLERS
from dml_bench.errors import DmlBenchError
from dml_bench.flow import VOCABULARY, load_split
from dml_bench.recipe.check import Run
from dml_bench.recipe.reader import Source, read_recipe
from dml_bench.results.record import RunRecord
from dml_bench.results.store import find_run, prepare


@dataclass(frozen=True)
class Plan:
    """The runs of a recipe, and the folder they go to."""

    runs: tuple[Run, ...]
    folder: Path

    def done(self) -> dict[str, RunRecord]:
        """Return the records of the runs that are published already, by run id."""
        found = {run.run_id: find_run(self.folder, run.run_id) for run in self.runs}
        return {run_id: record for run_id, record in found.items() if record}

    def ready(self) -> None:
        """Make the folder, load every data set and try every sampler on it, so that mistakes show before the first run.

        Raises:
            ResultsError: if the folder cannot be written.
            DataError: if a data set is missing or damaged.
            OptionError: if a sampler does not fit a data set.
        """
        prepare(self.folder)
        recipes = [run.recipe for run in self.runs]
        needs = {str((r.dataset, r.data_root, r.training and r.training.sampler)): r for r in recipes}
        for _, recipe in sorted(needs.items()):
            labels = load_split(recipe).train.labels
            if recipe.training:
                sampler = dict(recipe.training.sampler)
                SAMPLERS.build(sampler.pop("name"), labels, **sampler)


def plan(
    source: Source, *, changes: Iterable[str] = (), out: Path | None = None, data_root: Path | None = None
) -> Plan:
    """Read and check a recipe; see ``read_recipe``.

    Args:
        source: a recipe file, or an equal mapping.
        changes: ``"path=value"`` settings that overrule the recipe.
        out: the folder of the runs; by default ``runs/<recipe name>``.
        data_root: overrules the recipe's ``data_root``.
    """
    runs = read_recipe(source, VOCABULARY, changes)
    if data_root is not None:
        root = {"data_root": str(data_root)}
        runs = [Run(run.recipe.model_copy(update=root), run.options) for run in runs]
    return Plan(tuple(runs), out or Path("runs") / runs[0].recipe.name)


def choose_device(name: str) -> str:
    """Return a torch device: ``auto`` is ``cuda`` where there is a GPU, else ``cpu``.

    Raises:
        DmlBenchError: if ``cuda`` is asked for and there is none, or the name is no device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise DmlBenchError(f"--device {name}: must be auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise DmlBenchError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices")
    return name
