"""One optimizer step: gradients of one batch or several, whole or in parts, clipped, applied and averaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from dml_bench import ranks
from dml_bench.errors import DivergedError, OptionError, Problem, TrainingError
from dml_bench.losses.loss import Loss
from dml_bench.randomness import derive_seed
from dml_bench.recipe.schema import Training
from dml_bench.training.averaging import RunningMean
from dml_bench.training.groups import parameter_groups
from dml_bench.training.listening import drawing
from dml_bench.training.precision import autocast, lay_out, scaler, widened
from dml_bench.training.sparse import build_optimizers, with_sparse_gradient


class Learner:
    """Network, loss and optimizers, as one thing that learns from batches.

    Args:
        model: the network.
        loss: where the network is.
        settings: what the recipe says of training.
        seed: of the run; whatever network or loss draw in a step has a seed of its own.
        device: where model and loss are.

    Raises:
        OptionError: if the recipe's options do not go together with the network, the loss or the optimizer.
    """

    def __init__(self, model: nn.Module, loss: Loss, settings: Training, seed: int, device: torch.device) -> None:
        self.model: nn.Module = lay_out(model, settings)
        self.loss, self.settings, self.seed, self.device = loss, settings, seed, device
        sparse = with_sparse_gradient(loss)
        _check_clipping(settings, bool(sparse))
        self.optimizers = build_optimizers(settings.optimizer, parameter_groups(model, loss, settings), sparse)
        self._groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        self._rates = [group["lr"] for group in self._groups]
        ranks.from_first(part for module in (model, loss) for part in module.state_dict(keep_vars=True).values())
        self._network = torch.compile(model) if settings.compile else model
        self._scaler = scaler(settings, device)
        self._mean = RunningMean(model, settings.ema) if settings.ema else None

    @property
    def rate(self) -> float:
        """The learning rate of the first group, which is the network's."""
        return float(self._groups[0]["lr"])

    def begin(self, factor: float) -> None:
        """Begin an optimizer step with ``factor`` times the learning rates."""
        for group, rate in zip(self._groups, self._rates, strict=True):
            group["lr"] = rate * factor
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def learn(
        self, images: Tensor, labels: Tensor, indices: Tensor, epoch: int, step: int, together: int = 1
    ) -> tuple[Tensor, float]:
        """Add the gradient of one of ``together`` batches whose mean counts; return its embeddings and its loss.

        Of several ranks each is given its share of the images, and the labels of all; loss and embeddings are those of
        the whole batch.

        Raises:
            DivergedError: if the network's output or the loss is not finite.
        """
        seed = derive_seed(self.seed, "step", epoch, step)
        parts = self._parts(images)
        with drawing(seed, self.device):
            with self._dropping(seed):
                own = self._embed(images) if len(parts) == 1 else self._first_pass(parts)
            embeddings = ranks.gathered(own, len(labels))
            _check_finite("the network's output", embeddings, epoch, step)
            value = self.loss(embeddings, labels, indices)
            _check_finite("the loss", value, epoch, step)
        if not value.requires_grad:
            raise TrainingError(f"nothing that the loss depends on learns in epoch {epoch}")
        self._scaler.scale(value / together).backward()
        if len(parts) > 1 and own.grad is not None:
            with drawing(seed, self.device), self._dropping(seed):
                self._second_pass(parts, own.grad)
        return embeddings.detach(), float(value.detach())

    def step(self) -> None:
        """Apply what was learned, and tell the loss."""
        settings = self.settings
        self._join()
        if settings.clip_value or settings.clip_norm:
            self._clip()
        for optimizer in self.optimizers:
            self._scaler.step(optimizer)
        self._scaler.update()
        self.loss.on_step()
        if self._mean:
            self._mean.update()

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be saved between two steps."""
        return {name: part.state_dict() for name, part in self._parts_by_name().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` returned."""
        for name, part in self._parts_by_name().items():
            part.load_state_dict(state[name])
        self._groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def _parts_by_name(self) -> dict[str, Any]:
        """Return all that a step changes."""
        optimizers = {f"optimizer {i}": optimizer for i, optimizer in enumerate(self.optimizers)}
        mean = {"mean": self._mean} if self._mean else {}
        return {"model": self.model, "loss": self.loss, "scaler": self._scaler, **optimizers, **mean}

    def as_evaluated(self) -> AbstractContextManager[None]:
        """Put the weights that are evaluated into the network for a while."""
        return self._mean.in_place() if self._mean else nullcontext()

    def finish(self) -> None:
        """Leave the weights that are evaluated in the network."""
        if self._mean:
            self._mean.swap()

    def _join(self) -> None:
        """Make the gradients those of the whole batch, on every rank; see ``ranks``."""
        ranks.add_up(_gradients(self.model))
        ranks.from_first(_gradients(self.loss))

    def _dropping(self, seed: int) -> AbstractContextManager[None]:
        """Draw what is dropped out from a seed of the rank's own, so that shares do not have the same masks."""
        return drawing(derive_seed(seed, "rank", ranks.here()), self.device) if ranks.count() > 1 else nullcontext()

    def _embed(self, images: Tensor) -> Tensor:
        with autocast(self.settings, self.device):
            embeddings: Tensor = self._network(lay_out(images, self.settings))
        return widened(embeddings)

    def _parts(self, images: Tensor) -> tuple[Tensor, ...]:
        """Cut a batch into parts of nearly equal size, so that none is left with a single image."""
        return images.tensor_split(-(-len(images) // (self.settings.chunk or len(images))))

    def _first_pass(self, parts: tuple[Tensor, ...]) -> Tensor:
        """Return the embeddings of all parts, for the loss to give them a gradient."""
        with _without_gradient(self.model):
            embeddings = torch.cat([self._embed(part) for part in parts])
        return embeddings.requires_grad_()

    def _second_pass(self, parts: tuple[Tensor, ...], gradient: Tensor) -> None:
        """Go through the network once more, part by part, with the gradient that the loss gave the embeddings.

        Source: Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup, 2021.
        """
        for part, share in zip(parts, gradient.tensor_split(len(parts)), strict=True):
            embeddings = self._embed(part)
            if embeddings.requires_grad:
                torch.autograd.backward(embeddings, share)

    def _clip(self) -> None:
        for optimizer in self.optimizers:
            self._scaler.unscale_(optimizer)
        parameters = [parameter for group in self._groups for parameter in group["params"]]
        if self.settings.clip_value:
            nn.utils.clip_grad_value_(parameters, self.settings.clip_value)
        if self.settings.clip_norm:
            nn.utils.clip_grad_norm_(parameters, self.settings.clip_norm)


def _gradients(module: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in module.parameters() if parameter.grad is not None]


@contextmanager
def _without_gradient(model: nn.Module) -> Iterator[None]:
    """Let a pass through ``model`` leave no trace: neither a graph, nor new statistics of batch normalisation."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with torch.no_grad():
        yield
        for buffer, value in before:
            buffer.copy_(value)


def _check_clipping(settings: Training, sparse: bool) -> None:
    given = [name for name in ("clip_value", "clip_norm") if getattr(settings, name) is not None]
    if sparse and given:
        reason = "must be null for sampled_classes, whose gradient is sparse"
        raise OptionError([Problem(("training", name), reason) for name in given])


def _check_finite(what: str, values: Tensor, epoch: int, step: int) -> None:
    if not values.detach().isfinite().all():
        where = f"in epoch {epoch}, step {step + 1}"
        raise DivergedError(f"{what} is not finite {where}: try a lower learning rate, scale or margin")
