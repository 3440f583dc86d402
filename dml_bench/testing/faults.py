"""Places where pytorch-metric-learning gives NaN, or silently nothing, and a loss here must not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dml_bench.losses import LOSSES, Loss
from dml_bench.testing.cases import CLASSES, DIM, Batch, generator, make
from dml_bench.testing.finding import Finding
from dml_bench.testing.library import with_centers


@dataclass(frozen=True)
class Fault:
    """A batch in float32 that the library's class cannot cope with.

    Args:
        key: our loss.
        name: the class, as shown.
        build: builds the class.
        why: what goes wrong there.
        arrange: puts the centers of our loss in place and returns the batch.
        options: of our loss.
    """

    key: str
    name: str
    build: Callable[[], Any]
    why: str
    arrange: Callable[[Loss], Batch]
    options: Mapping[str, Any] = field(default_factory=dict)

    def finding(self) -> Finding:
        """Ask that a gradient of the library is NaN, or nothing where it should not be, and that ours is neither."""
        ours = make(self.key, **self.options).float()
        case = self.arrange(ours)
        theirs = with_centers(ours, self.build())
        pulls, others = _pulls(ours, case), _pulls(theirs, case)
        silent = (others == 0) & (pulls > 1e-6)
        passed = bool(pulls.isfinite().all() and (silent | ~others.isfinite()).any())
        return Finding("deviation", self.name, passed, note=self.why)


def faults(key: str) -> list[Fault]:
    """Return the faults to try beside the loss ``key``."""
    return [fault for fault in _faults() if fault.key == key and key in LOSSES]


def _pulls(loss: Any, case: Batch) -> Tensor:
    """Return the lengths of the gradients by each embedding and each learned tensor."""
    tensors = [case.x.clone().requires_grad_(), *loss.parameters()]
    first, *learned = torch.autograd.grad(loss(tensors[0], case.y), tensors)
    return torch.cat([first.norm(dim=1), *(gradient.norm()[None] for gradient in learned)])


def _near(loss: Loss) -> Batch:
    """Put embeddings almost and exactly on the centers and opposite to them."""
    first = loss.get_parameter("centers").detach()[:, 0]
    near = first + 5e-5 * torch.randn(first.shape, generator=generator(5))
    return Batch("near", torch.cat([near, first, -first]), torch.arange(CLASSES).repeat(3))


def _opposite(loss: Loss) -> Batch:
    """Put an embedding nearly opposite to its center, where those of all other classes are."""
    centers = loss.get_parameter("centers").data.zero_()
    centers[:, 0, 0] = torch.tensor([-1.0, 1.0, 1.0, 1.0, 1.0])
    x = torch.eye(2, DIM).flip(0)
    x[0] = torch.tensor([1.0, 0.1, 0.0, 0.0, 0.0, 0.0])
    return Batch("opposite", x, torch.tensor([0, 1]))


def _merging(loss: Loss) -> Batch:
    """Let the centers of each class all but coincide, as the regularizer wants it."""
    centers = loss.get_parameter("centers").data
    noise = torch.randn(centers.shape, generator=generator(6))
    centers.copy_(centers[:, :1] + 1e-4 * noise)
    return Batch("merging", torch.randn(6, DIM, generator=generator(8)), torch.arange(6) % CLASSES)


def _faults() -> list[Fault]:
    from pytorch_metric_learning import losses, regularizers

    sizes = {"num_classes": CLASSES, "embedding_size": DIM}
    sparse = {"weight_regularizer": regularizers.SparseCentersRegularizer(CLASSES, 10), "weight_reg_weight": 0.2}
    nan = "in float32 its gradient is NaN at and opposite to a center"
    return [
        Fault("arcface", "ArcFaceLoss() at the poles", lambda: losses.ArcFaceLoss(**sizes), nan, _near),
        Fault(
            "subcenter_arcface",
            "SubCenterArcFaceLoss() at the poles",
            lambda: losses.SubCenterArcFaceLoss(**sizes),
            nan,
            _near,
        ),
        Fault(
            "proxy_nca_pp",
            "ProxyNCALoss(softmax_scale=32) at 180 degrees",
            lambda: losses.ProxyNCALoss(**sizes, softmax_scale=32),
            "in float32 it drops samples whose probability underflows: their loss and gradient are 0, not 128 and more",
            _opposite,
            {"temperature": 1 / 32},
        ),
        Fault(
            "softtriple",
            "SparseCentersRegularizer at merging centers",
            lambda: losses.SoftTripleLoss(**sizes, **sparse),
            "in float32 its gradient is NaN once centers come within rounding of each other",
            _merging,
        ),
    ]
