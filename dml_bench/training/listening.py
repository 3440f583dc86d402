"""What the trainer tells those who listen: the training set at the start of an epoch, and how each step went."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dml_bench import ranks
from dml_bench.data.augment import to_float
from dml_bench.data.dataset import ImageSet
from dml_bench.epoch import EpochContext
from dml_bench.errors import OptionError, Problem
from dml_bench.losses.loss import Loss
from dml_bench.losses.numerics import unit
from dml_bench.models.modes import dropout_layers, evaluation_mode
from dml_bench.randomness import derive_seed

BATCH = 512
"""Images per forward pass without gradients."""


def epoch_context(model: nn.Module, train: ImageSet, *, seed: int, epoch: int, device: torch.device) -> EpochContext:
    """Return what may be asked of ``model`` and ``train`` at the start of an epoch."""
    passes = count(1)

    def run(dropout: bool) -> Tensor:
        if dropout:
            check_dropout(model)
        with drawing(derive_seed(seed, "dropout", epoch, next(passes) if dropout else 0), device):
            return _embed(model, train, device, dropout)

    generator = torch.Generator().manual_seed(derive_seed(seed, "epoch", epoch))
    return EpochContext(epoch, torch.tensor(train.labels, device=device), run, generator)


@torch.no_grad()
def _embed(model: nn.Module, train: ImageSet, device: torch.device, dropout: bool) -> Tensor:
    with evaluation_mode(model, dropout=dropout):
        # Each part is copied: torch cannot share a read-only memory map.
        rows = slice(0, len(train)) if dropout else ranks.blocks(len(train), BATCH)  # masks are drawn block after block
        parts = (np.array(train.images[at : at + BATCH]) for at in range(rows.start, rows.stop, BATCH))
        own = [model(to_float(torch.from_numpy(part).to(device))).float() for part in parts]
        return torch.cat(own) if dropout else ranks.gathered_blocks(own, len(train), BATCH, device)


@contextmanager
def drawing(seed: int, device: torch.device) -> Iterator[None]:
    """Let torch's global generators draw from ``seed`` for a while: dropout knows no other."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def check_dropout(model: nn.Module) -> None:
    """Refuse a network that drops nothing out with an OptionError."""
    if not dropout_layers(model):
        message = "needs a network with dropout > 0, such as {name: convnet, dropout: 0.2}"
        raise OptionError([Problem(("backbone",), message)])


def check_judge(loss: Loss) -> None:
    """Refuse a loss that cannot tell which samples it gets right with an OptionError."""
    if not hasattr(loss, "class_scores") or not hasattr(loss, "centers"):
        message = "learns which images are classified correctly, so it needs a loss with centers, such as am_softmax"
        raise OptionError([Problem(("training", "sampler"), message)])


@torch.no_grad()
def judge(
    loss: Loss, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"]
) -> tuple[Bool[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Return which samples are classified correctly, and the largest cosine of each to a center of its own class."""
    scores: Tensor = loss.class_scores(embeddings)  # type: ignore[operator]
    centers: Tensor = loss.centers.detach().to(embeddings.dtype)  # type: ignore[operator]
    own = unit(centers.movedim(-3, 0)[labels].flatten(1, -2))
    cosines = torch.einsum("nd,nkd->nk", unit(embeddings), own)
    correct, largest = scores.argmax(dim=1) == labels, cosines.amax(dim=1).double()
    ranks.from_first((correct, largest))  # so that all ranks draw the same batches
    return correct.cpu().numpy(), largest.cpu().numpy()
