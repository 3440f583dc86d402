"""The training loop. It knows no loss by name and never sees a test class."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from dml_bench import ranks
from dml_bench.data.dataset import ImageSet
from dml_bench.data.informed import LearnsFromEpochs, LearnsFromSteps
from dml_bench.data.samplers import Sampler, build_sampler
from dml_bench.epoch import EpochContext
from dml_bench.errors import OptionError, Problem, TrainingError
from dml_bench.losses.loss import Loss
from dml_bench.models.batch_norm import moving_norms, normalise_by_whole_batch
from dml_bench.models.freezing import freeze, head_only
from dml_bench.randomness import derive_seed
from dml_bench.recipe.schema import Training
from dml_bench.training.batches import Take, batches, taker
from dml_bench.training.budget import duration, total_steps
from dml_bench.training.listening import check_judge, drawing, epoch_context, judge
from dml_bench.training.precision import arithmetic, check_precision
from dml_bench.training.schedules import NEEDS_VALIDATION, SCHEDULES, HearsValidation, Schedule, paced
from dml_bench.training.step import Learner


@dataclass(frozen=True)
class EpochResult:
    """What one epoch came to; ``loss`` is the mean over its batches, ``waiting`` seconds without a batch to go on."""

    epoch: int
    loss: float
    learning_rate: float
    images_per_second: float
    seconds: float
    waiting: float = 0.0


@dataclass(frozen=True)
class Step:
    """Where training stands, for a progress display."""

    epoch: int
    step: int
    steps: int
    loss: float
    images_per_second: float


def fit(
    model: nn.Module,
    loss: Loss,
    train: ImageSet,
    settings: Training,
    *,
    seed: int,
    device: torch.device,
    on_start: Callable[[str], None] = lambda coverage: None,
    on_step: Callable[[Step], None] = lambda step: None,
    on_epoch: Callable[[EpochResult], bool | None] = lambda epoch: None,
    validation: Callable[[], float | None] | None = None,
) -> list[EpochResult]:
    """Train ``model`` and the parameters of ``loss`` in place; the weights after the last step are the result.

    Args:
        model: maps images ``(N, C, H, W)`` in [0, 1] to embeddings ``(N, D)``.
        loss: is told of every epoch and step; what it changes then is part of its state.
        train: the training images and labels.
        settings: epochs, sampler, optimizer, schedule, ...; see the recipe schema.
        seed: of the batches, the augmentation and whatever network or loss draw; each epoch has generators of its own.
        device: where model and loss are.
        on_start: is told how many images the sampler draws in an epoch.
        on_step: is told where training stands after each batch.
        on_epoch: is told what each epoch came to; training ends if it returns True. Meanwhile the model has the weights
            that are evaluated: with ``ema`` their running mean.
        validation: what the network was worth on held-out classes after the epoch that ``on_epoch`` was just told of,
            the higher the better, or None if that was not measured; for schedules that go by it.

    Returns:
        What each epoch came to.

    Raises:
        TrainingError: if the loss is not finite, or a parameter of the loss is not trained.
        OptionError: if options do not go together with each other, the loss, the network or the device.
    """
    check_precision(settings, device)
    sampler = build_sampler(settings.sampler, train)
    if isinstance(sampler, LearnsFromSteps):
        check_judge(loss)
    schedule = _schedule(settings, sampler, validation is not None)
    steps = total_steps(settings, sampler)
    freeze(model, settings.freeze)
    if ranks.count() > 1:
        _fit_for_ranks(model, sampler, settings)
    before = {name: _trace(p) for name, p in loss.named_parameters()}
    curve: list[EpochResult] = []
    with arithmetic(settings):
        learner = Learner(model, loss, settings, seed, device)
        factor = paced(schedule, settings, len(sampler))
        training = _Fit(learner, train, sampler, taker(train, settings, device), factor, on_step)
        on_start(sampler.coverage)
        for epoch in range(1, -(-steps // len(sampler)) + 1):
            length = min(len(sampler), steps - (epoch - 1) * len(sampler))  # the last epoch may be cut short
            curve.append(training.epoch(epoch, length))
            with learner.as_evaluated():
                ends = on_epoch(curve[-1])
            if validation and isinstance(schedule, HearsValidation) and (value := validation()) is not None:
                schedule.on_validation(value)
            if ends:
                break
        learner.finish()
    if settings.head_epochs:
        head_only(model, False)
    still = [name for name, p in loss.named_parameters() if p.requires_grad and torch.equal(_trace(p), before[name])]
    if still:
        raise TrainingError(f"training never moved the loss's {', '.join(still)}")
    return curve


@dataclass(frozen=True)
class _Fit:
    """What goes on while training; ``factor`` is the schedule, warm-up included."""

    learner: Learner
    train: ImageSet
    sampler: Sampler
    take: Take
    factor: Schedule
    on_step: Callable[[Step], None]

    def epoch(self, epoch: int, length: int) -> EpochResult:
        """Train for ``length`` batches."""
        start, images, total = time.perf_counter(), 0, 0.0
        self._begin(epoch)
        drawn = _Timed(islice(self._batches(epoch), length))
        for step, (batch, labels, indices) in enumerate(drawn):
            first = step - step % self.learner.settings.accumulate
            together = min(self.learner.settings.accumulate, length - first)
            if step == first:
                self.learner.begin(self.factor(epoch - 1 + step / len(self.sampler)))
            embeddings, value = self.learner.learn(batch, labels, indices, epoch, step, together)
            if step == first + together - 1:
                self.learner.step()
            if isinstance(self.sampler, LearnsFromSteps):
                self.sampler.update(indices.cpu().numpy(), *judge(self.learner.loss, embeddings, labels))
            images, total = images + len(labels), total + value
            self.on_step(Step(epoch, step + 1, length, value, images / (time.perf_counter() - start)))
        seconds = time.perf_counter() - start
        return EpochResult(epoch, total / length, self.learner.rate, images / seconds, seconds, drawn.waiting)

    def _begin(self, epoch: int) -> None:
        """Tell those who listen that an epoch begins, and switch to training mode."""
        model, loss, seed, device = self.learner.model, self.learner.loss, self.learner.seed, self.learner.device
        with drawing(derive_seed(seed, "announcement", epoch), device):
            _announce(epoch_context(model, self.train, seed=seed, epoch=epoch, device=device), loss, self.sampler)
        ranks.from_first(loss.buffers())
        if self.learner.settings.head_epochs:
            head_only(model, epoch <= self.learner.settings.head_epochs)
        model.train()
        loss.train()

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        learner = self.learner
        return batches(self.take, self.train, self.sampler, learner.settings, learner.seed, epoch, learner.device)


class _Timed:
    """Pass batches on, and add up the seconds until each of them was there."""

    def __init__(self, batches: Iterator[tuple[Tensor, Tensor, Tensor]]) -> None:
        self._batches, self.waiting = batches, 0.0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        return self

    def __next__(self) -> tuple[Tensor, Tensor, Tensor]:
        start = time.perf_counter()
        try:
            return next(self._batches)
        finally:
            self.waiting += time.perf_counter() - start


def _schedule(settings: Training, sampler: Sampler, validated: bool) -> Schedule:
    options = {key: value for key, value in settings.schedule.items() if key != "name"}
    schedule: Schedule = SCHEDULES.build(settings.schedule["name"], duration(settings, sampler), **options)
    if isinstance(schedule, HearsValidation) and not validated:
        raise OptionError([Problem(("training", "schedule"), NEEDS_VALIDATION)])
    return schedule


def _fit_for_ranks(model: nn.Module, sampler: Sampler, settings: Training) -> None:
    """Let batch normalisation see the whole batch, and refuse what several ranks cannot do."""
    held = getattr(model, "held", [])
    problems = [
        Problem(
            ("training", name), "needs freeze: [batch_norm] with several ranks, as this network normalises by batch"
        )
        for name in ("chunk", "compile")
        if getattr(settings, name) and moving_norms(model, held)
    ]
    size = getattr(sampler, "batch_size", None)
    if size is not None and size < ranks.count():
        message = f"draws batches of {size}, which cannot be shared by {ranks.count()} ranks"
        problems.append(Problem(("training", "sampler"), message))
    if problems:
        raise OptionError(problems)
    normalise_by_whole_batch(model, held)


def _trace(parameter: Tensor) -> Tensor:
    """Return a copy that tells whether a parameter moved: of a huge one the sums of its rows, which take no memory."""
    huge = parameter.ndim > 1 and parameter.numel() > 2**24
    return parameter.detach().flatten(1).sum(1) if huge else parameter.detach().clone()


@torch.no_grad()
def _announce(context: EpochContext, loss: Loss, sampler: Any) -> None:
    loss.on_epoch_start(context)
    if isinstance(sampler, LearnsFromEpochs):
        sampler.on_epoch_start(context)
