"""Hard prototype mining: each class remembers the classes it is most easily taken for."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dml_bench.losses.negatives import among
from dml_bench.losses.numerics import unit
from dml_bench.search.classes import nearest_classes

EMPTY = -1


class Rivals(nn.Module):
    """A queue of rivals for each class, as the negatives of a proxy loss; the newest push the oldest out.

    A batch's softmax runs over its own classes and their rivals. Classes that beat a sample's own join the queue of
    that class after the step.

    Args:
        num_classes: C.
        size: of each queue; never more than the other classes there are.

    Attributes:
        queues: ``(C, size)`` classes, newest first; empty (-1) until the first ``refresh``.

    Source: Liu et al., AdaptiveFace, CVPR 2019 (hard prototype mining, dominant queues).
    Interpretation: queues have a fixed length, and classes whose centers are more than a right angle from the owner's
        leave the queue when an epoch begins, in favour of those with the most similar centers.
    """

    queues: Tensor

    def __init__(self, num_classes: int, size: int) -> None:
        super().__init__()
        self.register_buffer("queues", torch.full((num_classes, min(size, num_classes - 1)), EMPTY))
        self._found: tuple[Tensor, Tensor] | None = None

    def forward(
        self, scores: Float[Tensor, "N C"], target: Float[Tensor, " N"], labels: Int[Tensor, " N"]
    ) -> Float[Tensor, "N C"]:
        """Leave only the candidates of the batch in the race."""
        allowed = torch.zeros(scores.shape[1], dtype=torch.bool, device=scores.device)
        allowed[self.candidate_classes(labels)] = True
        raced = among(scores, allowed)
        self._found = self._winners(raced.detach(), labels)
        return raced

    def candidate_classes(self, labels: Int[Tensor, " N"]) -> Int[Tensor, " U"]:
        """Return the classes that a batch with these labels has to tell apart: its own and all their rivals, sorted."""
        classes: Tensor = torch.unique(torch.cat([labels, self.queues[labels].flatten()]))
        return classes

    def _winners(
        self, scores: Float[Tensor, "N C"], labels: Int[Tensor, " N"]
    ) -> tuple[Int[Tensor, " B"], Int[Tensor, "B P"]]:
        """Return the classes of the batch, and for each the classes that beat it by most, EMPTY where none is left."""
        lead = scores - scores.gather(1, labels[:, None])
        owners, rows = torch.unique(labels, return_inverse=True)
        most = lead.new_full((len(owners), lead.shape[1]), -torch.inf)
        most.scatter_reduce_(0, rows[:, None].expand_as(lead), lead, "amax")
        leads, classes = most.topk(self.queues.shape[1], dim=1)
        return owners, classes.masked_fill(leads <= 0, EMPTY)

    def join(self) -> None:
        """Put the classes that won in the last batch in front of their queues."""
        if self._found is not None:
            owners, found = self._found
            self.queues[owners] = _merge(found, self.queues[owners])
            self._found = None

    def refresh(self, centers: Float[Tensor, "C K D"]) -> None:
        """Drop rivals whose centers turned away, and fill up with the classes whose centers are most similar.

        Several centers of a class are compared by their mean direction.
        """
        directions = unit(unit(centers).mean(dim=1))
        nearest = nearest_classes(directions, self.queues.shape[1])
        rows = max(1, (1 << 24) // max(1, self.queues.shape[1] * centers.shape[2]))
        for start in range(0, len(centers), rows):
            block = slice(start, start + rows)
            queue = self.queues[block]
            cosines = torch.einsum("cd,cqd->cq", directions[block], directions[queue])
            self.queues[block] = _merge(queue.masked_fill(cosines < 0, EMPTY), nearest[block])


def _merge(first: Int[Tensor, "B P"], then: Int[Tensor, "B Q"]) -> Int[Tensor, "B Q"]:
    """Return the first Q entries of ``first`` and ``then`` in a row, empty ones and repetitions left out."""
    repeated = ((then[:, :, None] == first[:, None, :]) & (first[:, None, :] != EMPTY)).any(dim=2)
    joined = torch.cat([first, then.masked_fill(repeated, EMPTY)], dim=1)
    order = (joined == EMPTY).byte().argsort(dim=1, stable=True)
    return joined.gather(1, order)[:, : then.shape[1]]
