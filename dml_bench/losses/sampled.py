"""Softmax over the classes of the batch and a random share of the others, for class counts of a million."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from dml_bench.losses.loss import Task
from dml_bench.losses.memory import check_memory
from dml_bench.losses.proxy import ProxyLoss


class SampledProxyLoss(ProxyLoss):
    """Compare embeddings with the centers of the batch's classes and of M others, drawn anew in each step.

    Of the R classes that are not in the batch, min(M, R) are drawn evenly and without replacement. Each of them stands
    for R / M: after scale and bias its logit is raised by log(R / M).

    The sum over classes, ``Z = sum_j exp(z_j)``, then has the expected value of the full one, whatever the draw of the
    batch. The loss, ``log Z - z_y``, has not: the logarithm is concave, so on average it is a little too low, by about
    Var(Z) / (2 E[Z]^2). That falls like 1 / M, and is 0 once M >= R, where the loss is the plain one. Factors of a
    weighting are those of the sampled softmax.

    Gradients of centers and bias are sparse: only the compared classes have one, and only their rows are copied.

    Args:
        task: the facts about the training set.
        sampled_classes: M >= 1.
        parts: as of ``ProxyLoss``.

    Attributes:
        draw_seed: the seed of the drawing, which ``steps`` goes on from. A loop of your own calls ``on_step`` after
            each step; without it, the same random numbers choose among the other classes of every batch.

    Raises:
        OptionError: when parts do not make sense together, or not with a share of the classes.
    """

    sparse_parameters = ("centers", "bias")
    draw_seed: Tensor

    def __init__(self, task: Task, *, sampled_classes: int, **parts: Any) -> None:
        super().__init__(task, **parts)
        self.sampled_classes = sampled_classes
        self.register_buffer("draw_seed", torch.randint(2**31, ()))

    def compute(
        self, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"], indices: Int[Tensor, " N"] | None
    ) -> dict[str, Tensor]:
        """Return the mean cost among the classes that are compared."""
        classes, raised = self.draw(labels)
        centers = self._as(_rows(self.centers, classes), embeddings)
        check_memory(len(embeddings), (centers,))
        bias = raised if self.bias is None else _rows(self.bias, classes) + raised
        columns = torch.searchsorted(classes, labels)
        logits = self._logits(embeddings.to(centers.dtype), centers, columns, indices, bias.to(centers.dtype))
        costs: Tensor = self.objective(logits, columns)
        return {"objective": self._weighted(costs, -costs, labels)}

    def draw(self, labels: Int[Tensor, " N"]) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"]]:
        """Return the classes that a batch is compared with, in order, and what each of their logits is raised by."""
        own = torch.unique(labels)
        rest = self.task.num_classes - len(own)
        count = min(self.sampled_classes, rest)
        generator = np.random.default_rng((int(self.draw_seed), int(self.steps)))
        places = generator.choice(rest, count, replace=False, shuffle=False)
        drawn = torch.from_numpy(places).to(own)
        # The p-th of the other classes is p plus the number of the batch's classes before it.
        drawn += torch.searchsorted(own - torch.arange(len(own), device=own.device), drawn, right=True)
        classes, order = torch.cat([own, drawn]).sort()
        raise_by = math.log(rest / count) if count else 0.0
        return classes, (order >= len(own)).double() * raise_by


class _Rows(torch.autograd.Function):
    """Copy rows; the gradient is sparse. Torch's own way, ``embedding``, knows matrices only."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape = table.shape
        return table.index_select(0, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        made = torch.sparse_coo_tensor(rows[None], gradient, ctx.shape, is_coalesced=True, check_invariants=False)
        return made, None


def _rows(table: Tensor, rows: Int[Tensor, " B"]) -> Tensor:
    """Return the rows of a table, of which each is asked for once and in order."""
    picked: Tensor = _Rows.apply(table, rows)  # type: ignore[no-untyped-call]
    return picked
