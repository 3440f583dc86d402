"""The training loop. It knows no loss by name and never sees a test class."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from dml_bench.data.dataset import ImageSet
from dml_bench.data.informed import LearnsFromEpochs, LearnsFromSteps
from dml_bench.data.samplers import build_sampler
from dml_bench.epoch import EpochContext
from dml_bench.errors import TrainingError
from dml_bench.losses.loss import Loss
from dml_bench.randomness import derive_seed
from dml_bench.recipe.schema import Training
from dml_bench.training.batches import batches, taker
from dml_bench.training.budget import duration, total_steps
from dml_bench.training.listening import check_judge, drawing, epoch_context, judge
from dml_bench.training.precision import autocast, lay_out
from dml_bench.training.schedules import SCHEDULES, warm_up
from dml_bench.training.sparse import build_optimizers, with_sparse_gradient


@dataclass(frozen=True)
class EpochResult:
    """What one epoch came to; ``loss`` is the mean over its steps."""

    epoch: int
    loss: float
    learning_rate: float
    images_per_second: float
    seconds: float


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
        on_step: is told where training stands after each step.
        on_epoch: is told what each epoch came to; training ends if it returns True.

    Returns:
        What each epoch came to.

    Raises:
        TrainingError: if the loss is not finite, or a parameter of the loss is not trained.
        OptionError: if the optimizer is not one for sparse gradients, which the loss has.
    """
    lay_out(model, settings.precision)
    sampler = build_sampler(settings.sampler, train)
    if isinstance(sampler, LearnsFromSteps):
        check_judge(loss)
    optimizers = build_optimizers(settings.optimizer, _groups(model, loss, settings), with_sparse_gradient(loss))
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    rates = [group["lr"] for group in groups]
    steps = total_steps(settings, sampler)
    schedule = _build(SCHEDULES, settings.schedule, duration(settings, sampler))
    factor = warm_up(schedule, settings.warmup_epochs, len(sampler))
    take = taker(train, settings, device)
    before = {name: _trace(p) for name, p in loss.named_parameters()}
    on_start(sampler.coverage)
    curve = []
    for epoch in range(1, -(-steps // len(sampler)) + 1):
        length = min(len(sampler), steps - (epoch - 1) * len(sampler))  # the last epoch may be cut short
        start, images, total = time.perf_counter(), 0, 0.0
        with drawing(derive_seed(seed, "announcement", epoch), device):
            _announce(epoch_context(model, train, seed=seed, epoch=epoch, device=device), loss, sampler)
        model.train()
        loss.train()
        drawn = batches(take, train, sampler, settings, seed, epoch, device)
        for step, (batch, labels, indices) in enumerate(islice(drawn, length)):
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate * factor(epoch - 1 + step / len(sampler))
            with drawing(derive_seed(seed, "step", epoch, step), device):
                with autocast(settings.precision, device):
                    embeddings = model(lay_out(batch, settings.precision))
                _check_finite("the network's output", embeddings, epoch, step)
                value = loss(embeddings.float(), labels, indices)
                _check_finite("the loss", value, epoch, step)
            number = float(value.detach())
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            value.backward()
            for optimizer in optimizers:
                optimizer.step()
            loss.on_step()
            if isinstance(sampler, LearnsFromSteps):
                sampler.update(indices.cpu().numpy(), *judge(loss, embeddings.detach().float(), labels))
            images, total = images + len(labels), total + number
            on_step(Step(epoch, step + 1, length, number, images / (time.perf_counter() - start)))
        seconds = time.perf_counter() - start
        curve.append(EpochResult(epoch, total / length, groups[0]["lr"], images / seconds, seconds))
        if on_epoch(curve[-1]):
            break
    still = [name for name, p in loss.named_parameters() if p.requires_grad and torch.equal(_trace(p), before[name])]
    if still:
        raise TrainingError(f"training never moved the loss's {', '.join(still)}")
    return curve


def _trace(parameter: Tensor) -> Tensor:
    """Return a copy that tells whether a parameter moved: of a huge one the sums of its rows, which take no memory."""
    huge = parameter.ndim > 1 and parameter.numel() > 2**24
    return parameter.detach().flatten(1).sum(1) if huge else parameter.detach().clone()


def _check_finite(what: str, values: Tensor, epoch: int, step: int) -> None:
    if not values.detach().isfinite().all():
        where = f"in epoch {epoch}, step {step + 1}"
        raise TrainingError(f"{what} is not finite {where}: try a lower learning rate, scale or margin")


@torch.no_grad()
def _announce(context: EpochContext, loss: Loss, sampler: Any) -> None:
    loss.on_epoch_start(context)
    if isinstance(sampler, LearnsFromEpochs):
        sampler.on_epoch_start(context)


def _build(registry: Any, choice: Mapping[str, Any], *facts: Any) -> Any:
    return registry.build(choice["name"], *facts, **{key: value for key, value in choice.items() if key != "name"})


def _groups(model: nn.Module, loss: Loss, settings: Training) -> list[dict[str, Any]]:
    """Return the optimizer's groups: the network, and each group of the loss at the rates the recipe gives it."""
    own = settings.centers.lr or settings.optimizer["lr"]
    groups: list[dict[str, Any]] = [{"params": list(model.parameters())}]
    for group in loss.param_groups(own):
        groups.append({"params": group["params"], "lr": group["lr"], "weight_decay": settings.centers.weight_decay})
    known = {id(p) for group in groups for p in group["params"]}
    lost = [name for name, p in loss.named_parameters() if p.requires_grad and id(p) not in known]
    if lost:
        raise TrainingError(f"param_groups of {type(loss).__name__} leaves out {', '.join(lost)}")
    return groups
