"""The training loop. It knows no loss by name and never sees a test class."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
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
from dml_bench.ranks import RankError
from dml_bench.recipe.schema import Training
from dml_bench.training.batches import Batch, Take, batches, taker
from dml_bench.training.budget import duration, total_steps
from dml_bench.training.checkpoint import Checkpoints, Stateful
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
    checkpoints: Checkpoints | None = None,
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
        checkpoints: where training is saved now and then, and from where it goes on exactly as if it had never stopped.

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
    with arithmetic(settings):
        learner = Learner(model, loss, settings, seed, device)
        factor = paced(schedule, settings, len(sampler))
        training = _Fit(learner, train, sampler, taker(train, settings, device), schedule, factor, on_step)
        progress = Progress()
        if checkpoints and (state := checkpoints.restore()):
            progress = training.restore(state)
        if ranks.agreed(lambda: progress.steps) != progress.steps:
            raise RankError(f"rank {ranks.here()} does not find the checkpoint that rank 0 goes on from")
        if progress.steps == 0:
            on_start(sampler.coverage)
        while progress.epoch <= -(-steps // len(sampler)) and not progress.ended:
            length = min(len(sampler), steps - (progress.epoch - 1) * len(sampler))  # the last epoch may be cut short
            result = training.epoch(progress, length, checkpoints)
            with learner.as_evaluated():
                ended = bool(on_epoch(result))
            if validation and isinstance(schedule, HearsValidation) and (value := validation()) is not None:
                schedule.on_validation(value)
            progress = Progress(result.epoch + 1, progress.steps, ended=ended, curve=[*progress.curve, result])
            last = ended or result.epoch * len(sampler) >= steps
            if checkpoints and (last or checkpoints.due(progress.steps)):
                checkpoints.save(progress.steps, training.state(progress))
        learner.finish()
    if settings.head_epochs:
        head_only(model, False)
    still = [name for name, p in loss.named_parameters() if p.requires_grad and torch.equal(_trace(p), before[name])]
    if still:
        raise TrainingError(f"training never moved the loss's {', '.join(still)}")
    return progress.curve


@dataclass
class Progress:
    """Where training stands.

    Attributes:
        epoch: that goes on, from 1.
        steps: optimizer steps that were done.
        batches: of this epoch that were done, and of these:
        images, total, seconds, waiting: the number of images, the sum of the losses, and the time they took.
        draws: the states of the generators after the last batch; None when an epoch begins.
        ended: whether training ended before its time.
        curve: the epochs that were done.
    """

    epoch: int = 1
    steps: int = 0
    batches: int = 0
    images: int = 0
    total: float = 0.0
    seconds: float = 0.0
    waiting: float = 0.0
    draws: Mapping[str, Tensor] | None = None
    ended: bool = False
    curve: list[EpochResult] = field(default_factory=list)


@dataclass(frozen=True)
class _Fit:
    """What goes on while training; ``factor`` is the schedule, with warm-up and pace."""

    learner: Learner
    train: ImageSet
    sampler: Sampler
    take: Take
    schedule: Schedule
    factor: Schedule
    on_step: Callable[[Step], None]

    def epoch(self, at: Progress, length: int, checkpoints: Checkpoints | None) -> EpochResult:
        """Train to the end of an epoch of ``length`` batches, and save when it is time."""
        start, together = time.perf_counter() - at.seconds, self.learner.settings.accumulate
        self._begin(at)
        drawn = _Timed(islice(self._batches(at), length - at.batches), at.waiting)
        for batch in drawn:
            step, epoch = at.batches, at.epoch
            first = step - step % together
            if step == first:
                self.learner.begin(self.factor(epoch - 1 + step / len(self.sampler)))
            share = min(together, length - first)
            embeddings, value = self.learner.learn(batch.images, batch.labels, batch.indices, epoch, step, share)
            ends = step == first + share - 1
            if ends:
                self.learner.step()
                at.steps += 1
            if isinstance(self.sampler, LearnsFromSteps):
                self.sampler.update(batch.indices.cpu().numpy(), *judge(self.learner.loss, embeddings, batch.labels))
            at.batches, at.images, at.total = step + 1, at.images + len(batch.labels), at.total + value
            at.seconds, at.waiting, at.draws = time.perf_counter() - start, drawn.waiting, batch.draws
            self.on_step(Step(epoch, step + 1, length, value, at.images / at.seconds))
            if checkpoints and ends and at.batches < length and checkpoints.due(at.steps):
                checkpoints.save(at.steps, self.state(at))
        seconds = time.perf_counter() - start
        return EpochResult(at.epoch, at.total / length, self.learner.rate, at.images / seconds, seconds, drawn.waiting)

    def state(self, progress: Progress) -> dict[str, Any]:
        """Return all that the rest of training depends on."""
        parts = {"learner": self.learner, "sampler": self.sampler, "schedule": self.schedule}
        saved = {name: part.state_dict() for name, part in parts.items() if isinstance(part, Stateful)}
        return {**saved, "progress": {**vars(progress), "curve": [asdict(epoch) for epoch in progress.curve]}}

    def restore(self, state: Mapping[str, Any]) -> Progress:
        """Go on from what ``state`` returned."""
        parts = {"learner": self.learner, "sampler": self.sampler, "schedule": self.schedule}
        for name, part in parts.items():
            if isinstance(part, Stateful):
                part.load_state_dict(state[name])
        progress = dict(state["progress"])
        curve = [EpochResult(**epoch) for epoch in progress.pop("curve")]
        return Progress(**progress, curve=curve)

    def _begin(self, at: Progress) -> None:
        """Tell those who listen that an epoch begins, unless it goes on, and switch to training mode."""
        model, loss, seed, device = self.learner.model, self.learner.loss, self.learner.seed, self.learner.device
        if at.batches == 0:
            with drawing(derive_seed(seed, "announcement", at.epoch), device):
                context = epoch_context(model, self.train, seed=seed, epoch=at.epoch, device=device)
                _announce(context, loss, self.sampler)
            ranks.from_first(loss.buffers())
        if self.learner.settings.head_epochs:
            head_only(model, at.epoch <= self.learner.settings.head_epochs)
        model.train()
        loss.train()

    def _batches(self, at: Progress) -> Iterator[Batch]:
        settings, seed, device = self.learner.settings, self.learner.seed, self.learner.device
        return batches(self.take, self.train, self.sampler, settings, seed, at.epoch, device, at.batches, at.draws)


class _Timed:
    """Pass batches on, and add up the seconds until each of them was there."""

    def __init__(self, batches: Iterator[Batch], waiting: float) -> None:
        self._batches, self.waiting = batches, waiting

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
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
