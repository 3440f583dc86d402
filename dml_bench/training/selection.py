"""Which of the networks that training passes through is the result, and on what that is decided."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from dml_bench.errors import DataError, OptionError, Problem
from dml_bench.registry import Count, Registry

Folds = Annotated[int, Field(ge=2, le=100)]


@dataclass(frozen=True)
class Selection:
    """A rule of model selection.

    Args:
        metric: the higher the better; None to take the last network without measuring.
        every: epochs between measurements; the last epoch is measured in any case.
        patience: measurements without a new best after which training ends; None for never.
        folds: parts of the training classes, of which one is held out to measure on; None to measure on the test part.
        fold: which part is held out, from 1.
    """

    metric: str | None = None
    every: int = 1
    patience: int | None = None
    folds: int | None = None
    fold: int = 1


SELECTIONS: Registry[Selection] = Registry("selections")
"""Factories ``(*, ...) -> Selection``."""


@SELECTIONS.register("last")
def last() -> Selection:
    """The network after the last step; nothing is measured before the end."""
    return Selection()


def _fold_exists(**options: Any) -> None:
    if options["fold"] > options["folds"]:
        raise OptionError([Problem(("fold",), f"must be at most folds, {options['folds']}, not {options['fold']}")])


@SELECTIONS.register("validation", refuse=_fold_exists)
def validation(
    *,
    metric: str = "map@r",
    folds: Folds = 4,
    fold: Count = 1,
    every: Count = 1,
    patience: Count | None = None,
) -> Selection:
    """The best network by ``metric`` on training classes that are held out; the test classes are not looked at.

    The training classes fall into ``folds`` parts, the same for every seed; part ``fold`` is held out and the others
    are trained on; a ``subset`` is taken of these. ``every``: epochs between measurements, the last one always; those
    in which the head learns alone are not measured. ``patience``: measurements without a new best after which training
    ends. The first of equally good networks is taken. A grid over ``fold`` makes the
    cross-validation of the source; ``dml-bench ensemble`` then gives its separate and concatenated figures.

    Source: Musgrave, Belongie, Lim, "A Metric Learning Reality Check", ECCV 2020, with 4 folds and MAP@R.
    Differs: classes fall into folds at random (but always the same), not in the order of their numbers.
    """
    return Selection(metric, every, patience, folds, fold)


@SELECTIONS.register("test_oracle")
def test_oracle(*, metric: str = "recall@1", every: Count = 1) -> Selection:
    """The best network by ``metric`` on the TEST classes: optimistic, and only for papers that did the same.

    Tables say so, and rows selected like this are never ranked with others. ``every``: epochs between measurements.
    """
    return Selection(metric, every)


class Keeper:
    """Measure a network after epochs and keep a copy of the best.

    Args:
        selection: the rule.
        modules: what is copied and restored: the network and the loss.
        measure: the value of the metric for the network as it is.
    """

    def __init__(self, selection: Selection, modules: Sequence[nn.Module], measure: Callable[[], float]) -> None:
        self.selection, self._modules, self._measure = selection, modules, measure
        self.best, self.best_epoch, self.epoch = -math.inf, 0, 0
        self._measured, self._worse, self._value = 0, 0, math.nan
        self._kept: list[dict[str, Any]] = []

    def after(self, epoch: int) -> float | None:
        """Measure if it is time to; return what was measured."""
        self.epoch = epoch
        return self._look() if epoch % self.selection.every == 0 else None

    def latest(self) -> float | None:
        """Return what was measured after the last epoch, if it was."""
        return self._value if self._measured and self._measured == self.epoch else None

    @property
    def is_out_of_patience(self) -> bool:
        """Whether training should end."""
        return self.selection.patience is not None and self._worse >= self.selection.patience

    def finish(self) -> float | None:
        """Measure the last epoch if that was not done, restore the best network, and return what was measured."""
        value = self._look() if self._measured < self.epoch or not self._kept else None
        for module, state in zip(self._modules, self._kept, strict=True):
            module.load_state_dict(state)
        return value

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be saved with a training run."""
        kept = ("best", "best_epoch", "epoch", "_measured", "_worse", "_value", "_kept")
        return {name.strip("_"): getattr(self, name) for name in kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` returned."""
        self.best, self.best_epoch, self.epoch = state["best"], state["best_epoch"], state["epoch"]
        self._measured, self._worse, self._value = state["measured"], state["worse"], state["value"]
        self._kept = state["kept"]

    def _look(self) -> float:
        value = self._measure()
        self._measured, self._value = self.epoch, value
        if math.isnan(value):
            raise DataError(f"selection.metric: {self.selection.metric} of what is selected on is not defined")
        self._worse += 1
        if value > self.best:
            self.best, self.best_epoch, self._worse = value, self.epoch, 0
            self._kept = [{name: _copy(part) for name, part in module.state_dict().items()} for module in self._modules]
        return value


def _copy(part: Any) -> Any:
    return part.detach().to("cpu", copy=True) if isinstance(part, torch.Tensor) else part
