"""Learning-rate schedules a recipe may name: factors of the optimizer's rates, by time in epochs."""

from __future__ import annotations

import math
from collections.abc import Callable

from dml_bench.registry import Count, Fraction, Probability, Registry

Schedule = Callable[[float], float]
"""Maps the time since the start, in epochs with fractions, to a factor of the learning rate."""

SCHEDULES: Registry[Schedule] = Registry("schedules")
"""Factories ``(epochs: float | int, /, *, ...) -> Schedule``."""


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
    """Multiply by ``gamma`` once each of ``milestones`` epochs is over: ``[20, 40]`` has 20 full-rate epochs."""
    return lambda time: gamma ** sum(time >= milestone for milestone in milestones)


def warm_up(schedule: Schedule, epochs: float, steps: int) -> Schedule:
    """Multiply ``schedule`` with a linear rise over the first ``epochs`` of ``steps`` steps; no step stands still."""
    return schedule if epochs == 0 else lambda time: schedule(time) * min((time + 1 / steps) / epochs, 1.0)
