"""Which runner a command has asked for, when it is not this machine's own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial

from dml_bench.errors import DmlBenchError
from dml_bench.ranks import launched
from dml_bench.recipe.check import Run
from dml_bench.runners.local import Event
from dml_bench.runners.node import device_of

Begin = Callable[..., Generator[tuple[Run, Event], None, None]]
"""Executes runs of a grid and yields their events: ``(grid, todo, *, replaces, checkpoint_every)``."""


def elsewhere(
    runner: str,
    *,
    device: str,
    jobs: int | None,
    address: str | None,
    ship_data: bool,
    slurm: Sequence[str],
    timeout: float | None = None,
) -> Begin | None:
    """Return what executes runs on a cluster, or None for this machine.

    Args:
        runner: ``local``, ``ray`` or ``slurm``.
        device: as on the command line; must be ``auto`` on a cluster, and so on, for what only one runner knows.
        jobs: how many runs go at once on this machine.
        address: of a Ray cluster.
        ship_data: whether Ray sends the data.
        slurm: ``KEY=VALUE`` parameters.
        timeout: of one run on this machine, seconds.

    Raises:
        DmlBenchError: naming an option that the runner does not know, or a package that is missing.
    """
    _only("ray", runner, {"--address": address, "--ship-data": ship_data})
    _only("slurm", runner, {"--slurm": slurm})
    if runner == "local":
        return None
    if timeout is not None:
        raise DmlBenchError(f"--timeout {timeout:g}: goes with --runner local; for Slurm, --slurm timeout_min=MINUTES")
    if launched()[1] > 1:
        raise DmlBenchError(f"--runner {runner}: one run on several devices by torchrun goes with --runner local")
    if device != "auto" or jobs:
        given = f"--jobs {jobs}" if jobs else f"--device {device}"
        raise DmlBenchError(f"{given}: a cluster places runs by the recipe's resources: --set resources.num_gpus=1")
    if runner == "ray":
        from dml_bench.runners.ray import run_on_ray

        return partial(run_on_ray, address=address, ship_data=ship_data)
    from dml_bench.runners.slurm import run_on_slurm

    return partial(run_on_slurm, parameters=dict(map(_parameter, slurm)))


def planned_device(runs: Iterable[Run]) -> str:
    """Return the kind of device that the runs of a grid will have on their nodes: ``cuda`` if one asks for GPUs."""
    return "cuda" if "cuda" in map(device_of, runs) else "cpu"


def _only(known_to: str, runner: str, options: dict[str, object]) -> None:
    for option, value in options.items():
        if value and runner != known_to:
            raise DmlBenchError(f"{option}: goes with --runner {known_to}, not {runner}")


def _parameter(text: str) -> tuple[str, str | int]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise DmlBenchError(f"--slurm {text}: must be KEY=VALUE, such as partition=gpu")
    return key, int(value) if value.isdigit() else value
