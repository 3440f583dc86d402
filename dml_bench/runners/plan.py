"""From a recipe to the runs that are still to be done."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dml_bench.data.dataset import Split
from dml_bench.data.informed import LearnsFromSteps
from dml_bench.data.samplers import build_sampler
from dml_bench.errors import DmlBenchError, OptionError, RecipeError, ResultsError
from dml_bench.flow import VOCABULARY, assemble
from dml_bench.models.freezing import freeze
from dml_bench.recipe.check import Run
from dml_bench.recipe.reader import Source, read_recipe
from dml_bench.recipe.schema import Recipe
from dml_bench.registry import Registry
from dml_bench.results.record import RunRecord
from dml_bench.results.store import find_run, prepare, stamp
from dml_bench.splits import forget_split, load_split
from dml_bench.training.budget import duration
from dml_bench.training.groups import parameter_groups
from dml_bench.training.listening import check_dropout, check_judge
from dml_bench.training.optimizers import OPTIMIZERS
from dml_bench.training.precision import check_precision
from dml_bench.training.schedules import SCHEDULES


@dataclass(frozen=True)
class Plan:
    """The runs of a recipe, and the folder they go to."""

    runs: tuple[Run, ...]
    folder: Path

    def done(self, retry: Collection[str] = ()) -> dict[str, RunRecord]:
        """Return the records of the runs that need not be repeated, by run id.

        Args:
            retry: kinds of failure that are to be repeated, of ``outcome.KINDS``, besides those whose process died.
        """
        found = {run.run_id: find_run(self.folder, run.run_id) for run in self.runs}
        return {key: record for key, record in found.items() if record and record.kind not in {"died", *retry}}

    def stamps(self) -> dict[str, int]:
        """Return ``store.stamp`` of each run: ask before ``done``, and what others publish afterwards is noticed."""
        return {run.run_id: stamp(self.folder, run.run_id) for run in self.runs}

    def records(self) -> list[RunRecord]:
        """Return the published records in the order of the grid, with the options that tell them apart in it."""
        found = [(run, find_run(self.folder, run.run_id)) for run in self.runs]
        return [replace(record, options=dict(run.options)) for run, record in found if record]

    def same_data(self, done: Mapping[str, RunRecord]) -> None:
        """Compare the data of records with the data as it is now.

        Raises:
            ResultsError: naming the first record that was made from other data.
        """
        for run in self.runs:
            record = done.get(run.run_id)
            if record and record.data and record.data["digest"] != load_split(run.recipe).digest:
                where = self.folder / run.run_id
                raise ResultsError(
                    f"{where}: was made from other data; repeat it with --force, or choose another --out"
                )

    def ready(self, device: str = "cpu") -> None:
        """Make the folder, load every data set and rehearse every recipe on it, so that mistakes show before any run.

        Args:
            device: where the runs will be.

        Raises:
            ResultsError: if the folder cannot be written.
            DataError: if a data set is missing or damaged.
            RecipeError: if a loss or a sampler does not fit a data set, or how it is trained the network or the device.
        """
        prepare(self.folder)
        recipes = [run.recipe.model_copy(update={"seed": 0}) for run in self.runs]
        for _, recipe in sorted({str((r.dataset, r)): r for r in recipes}.items()):
            rehearse(recipe, load_split(recipe), torch.device(device))


def rehearse(recipe: Recipe, split: Split, device: torch.device) -> None:
    """Build all that a run needs and train nothing: this shows the mistakes that only the data can show."""
    try:
        model, loss = assemble(recipe, split)
    except OptionError as error:
        raise _located("loss", error) from None
    if loss and loss.needs_dropout:
        _fits(check_dropout, model)
    if loss and recipe.training:
        training = recipe.training
        try:
            sampler = build_sampler(training.sampler, split.train)
        except OptionError as error:
            raise _located("training.sampler", error) from None
        if isinstance(sampler, LearnsFromSteps):
            check_judge(loss)
        _build("optimizer", OPTIMIZERS, training.optimizer, [{"params": [nn.Parameter(torch.zeros(1))]}])
        _build("schedule", SCHEDULES, training.schedule, duration(training, sampler))
        _fits(check_precision, training, device)
        _fits(freeze, model, training.freeze)
        _fits(parameter_groups, model, loss, training)
        if training.head_epochs and not any(True for part in (model.head, loss) for _ in part.parameters()):
            raise RecipeError(
                "training.head_epochs: must be 0, as network and loss have nothing to learn but the trunk"
            )


def _fits(check: Callable[..., object], *parts: Any) -> None:
    try:
        check(*parts)
    except OptionError as error:
        raise RecipeError(str(error)) from None


def _build(part: str, registry: Registry[Any], choice: Mapping[str, Any], *facts: Any) -> Any:
    options = {key: value for key, value in choice.items() if key != "name"}
    try:
        return registry.build(choice["name"], *facts, **options)
    except OptionError as error:
        raise _located(f"training.{part}", error) from None


def _located(part: str, error: OptionError) -> RecipeError:
    return RecipeError("\n".join(f"{part}.{problem}" for problem in error.problems))


def plan(
    source: Source, *, changes: Iterable[str] = (), out: Path | None = None, data_root: Path | None = None
) -> Plan:
    """Read and check a recipe, for data as they are now; see ``read_recipe``.

    Args:
        source: a recipe file, or an equal mapping.
        changes: ``"path=value"`` settings that overrule the recipe.
        out: the folder of the runs; by default ``runs/<recipe name>``.
        data_root: overrules the recipe's ``data_root``.
    """
    forget_split()
    if data_root is not None:
        changes = [*changes, f"data_root={json.dumps(str(data_root))}"]
    runs = read_recipe(source, VOCABULARY, changes)
    return Plan(tuple(runs), out or Path("runs") / runs[0].recipe.name)


def choose_device(name: str) -> str:
    """Return a torch device: ``auto`` is ``cuda`` where there is a GPU, else ``cpu``.

    Raises:
        DmlBenchError: if ``cuda`` is asked for and there is none, or the name is no device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, colon, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (colon and not (kind == "cuda" and index.isdigit())):
        raise DmlBenchError(f"--device {name}: must be auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise DmlBenchError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices")
    return name


def choose_devices(names: str) -> list[str]:
    """Return one torch device per worker: ``cuda:0*2,cuda:1`` has two runs at once on the first GPU.

    Raises:
        DmlBenchError: if a name is no device of this machine, or it is said that none of it is used.
    """
    devices: list[str] = []
    for word in names.split(","):
        match = re.fullmatch(r"\s*(?P<name>[a-z0-9:]+?)\s*(\*\s*(?P<times>[1-9]\d*))?\s*", word)
        if match is None:
            raise DmlBenchError(
                f"--devices {names}: {word!r} must be a device, such as cuda:0, or cuda:0*2 for two runs"
            )
        devices += [choose_device(match["name"])] * int(match["times"] or 1)
    return devices


def workers(devices: Sequence[str], jobs: int | None, default: int) -> list[str]:
    """Return the device of each worker.

    Args:
        devices: a single one is shared by all workers; of several, each entry has one worker.
        jobs: how many workers there are to be; None for the usual number.
        default: the usual number on a single device.

    Raises:
        DmlBenchError: if more workers are asked for than there are entries.
    """
    if len(devices) == 1:
        return [*devices] * (jobs or default)
    if jobs and jobs > len(devices):
        raise DmlBenchError(f"--jobs {jobs}: --devices names {len(devices)} places; cuda:0*2 has two runs on one GPU")
    return [*devices][:jobs]
