"""Learning-rate schedules a recipe may name: factors of the optimizer's rates, by time in epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Protocol, runtime_checkable

from pydantic import Field

from dml_bench.errors import OptionError, Problem
from dml_bench.recipe.schema import Training
from dml_bench.registry import Count, Fraction, Probability, Registry

Schedule = Callable[[float], float]
"""Maps the time since the start, in epochs with fractions, to a factor of the learning rate."""

SCHEDULES: Registry[Schedule] = Registry("schedules")
"""Factories ``(epochs: float | int, /, *, ...) -> Schedule``."""


@runtime_checkable
class HearsValidation(Protocol):
    """A schedule that goes by how good the network is on held-out classes."""

    def on_validation(self, value: float) -> None:
        """Hear what the network was worth at the end of an epoch: the higher, the better."""


@SCHEDULES.register("constant")
def constant(epochs: float | int, /) -> Schedule:
    """Keep the learning rate as it is."""
    return lambda time: 1.0


@SCHEDULES.register("cosine")
def cosine(epochs: float | int, /, *, final: Probability = 0.0) -> Schedule:
    """Fall along half a cosine from 1 to ``final``, step by step (Loshchilov & Hutter, ICLR 2017, without restarts)."""
    return lambda time: final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(time / epochs, 1.0)))


@SCHEDULES.register("step")
def step(epochs: float | int, /, *, milestones: list[Count], gamma: Fraction = 0.1) -> Schedule:
    """Multiply by ``gamma`` once each of ``milestones`` epochs is over: ``[20, 40]`` has 20 full-rate epochs.

    SoftTriple's code divides the rate before every epoch whose number, from 1, is a multiple of 20: 19 epochs at the
    full rate, 20 at a tenth, 11 at a hundredth; that is ``[19, 39]``.
    """
    return lambda time: gamma ** sum(time >= milestone for milestone in milestones)


@SCHEDULES.register("exponential")
def exponential(epochs: float | int, /, *, gamma: Fraction = 0.96) -> Schedule:
    """Multiply by ``gamma`` with each epoch, a little in every step."""
    return lambda time: gamma**time


def _validated(recipe: Mapping[str, Any]) -> None:
    """Refuse a recipe that holds no classes out."""
    selection = recipe.get("selection")
    if not isinstance(selection, Mapping) or selection.get("name") != "validation":
        raise OptionError([Problem(("training", "schedule"), NEEDS_VALIDATION)])


NEEDS_VALIDATION = "plateau goes by held-out classes, so it needs selection: {name: validation, ...}"


class Plateau:
    """Multiply by ``gamma`` once more than ``patience`` measurements on end were no better than the best one before."""

    def __init__(self, gamma: float, patience: int) -> None:
        self.gamma, self.patience = gamma, patience
        self.factor, self.best, self.worse = 1.0, -math.inf, 0

    def __call__(self, time: float) -> float:
        """Return the factor as it stands."""
        return self.factor

    def on_validation(self, value: float) -> None:
        """Hear what the network was worth at the end of an epoch."""
        self.worse = 0 if value > self.best else self.worse + 1
        self.best = max(self.best, value)
        if self.worse > self.patience:
            self.factor, self.worse = self.factor * self.gamma, 0

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be saved with a training run."""
        return {"factor": self.factor, "best": self.best, "worse": self.worse}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` returned."""
        self.factor, self.best, self.worse = state["factor"], state["best"], state["worse"]


@SCHEDULES.register("plateau", beside=_validated)
def plateau(epochs: float | int, /, *, gamma: Fraction = 0.1, patience: Annotated[int, Field(ge=0)] = 10) -> Schedule:
    """Multiply by ``gamma`` when more than ``patience`` measurements on held-out classes in a row were no new best.

    It goes by the metric and the rhythm of ``selection: {name: validation, ...}``.
    """
    return Plateau(gamma, patience)


def paced(schedule: Schedule, settings: Training, steps: int) -> Schedule:
    """Let a schedule stand still within an epoch of ``steps`` steps if the recipe says so, and warm up."""
    by_epoch: Schedule = lambda time: schedule(math.floor(time))  # noqa: E731
    return warm_up(by_epoch if settings.schedule_by == "epoch" else schedule, settings.warmup_epochs, steps)


def warm_up(schedule: Schedule, epochs: float, steps: int) -> Schedule:
    """Multiply ``schedule`` with a linear rise over the first ``epochs`` of ``steps`` steps; no step stands still."""
    return schedule if epochs == 0 else lambda time: schedule(time) * min((time + 1 / steps) / epochs, 1.0)
