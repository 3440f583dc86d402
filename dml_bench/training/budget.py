"""How long training lasts: in steps, whether the recipe says epochs, steps or images."""

from __future__ import annotations

from dml_bench.data.samplers import Sampler
from dml_bench.errors import OptionError, Problem
from dml_bench.recipe.schema import Training


def total_steps(settings: Training, sampler: Sampler) -> int:
    """Return the number of steps; the last batch of a budget in images is drawn whole.

    Raises:
        OptionError: if training is over before a warm-up is.
    """
    if settings.epochs is not None:
        return settings.epochs * len(sampler)
    steps = settings.steps or -(-(settings.images or 0) // sampler.batch_size)
    if settings.warmup_epochs * len(sampler) > steps:
        message = f"must be at most the {steps / len(sampler):.3g} epochs that training lasts"
        raise OptionError([Problem(("training", "warmup_epochs"), f"{message}, not {settings.warmup_epochs:g}")])
    if settings.head_epochs * len(sampler) >= steps:
        message = f"must be less than the {steps / len(sampler):.3g} epochs that training lasts"
        raise OptionError([Problem(("training", "head_epochs"), f"{message}, not {settings.head_epochs}")])
    return steps


def duration(settings: Training, sampler: Sampler) -> float | int:
    """Return how many epochs training lasts, with fractions."""
    return settings.epochs if settings.epochs is not None else total_steps(settings, sampler) / len(sampler)
