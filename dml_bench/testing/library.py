"""The same losses in pytorch-metric-learning: where it agrees, where it does not, and where it breaks down."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dml_bench.losses import LOSSES, Loss
from dml_bench.testing.cases import CLASSES, DIM, Batch, batch, generator, make
from dml_bench.testing.finding import Finding, measured


@dataclass(frozen=True)
class Rival:
    """A class of the library, and what comparing it with a loss of ours shows.

    Args:
        key: our loss.
        options: with which it is compared.
        name: the class, as shown.
        build: builds the class.
        why: empty where values and gradients agree, else what the library does otherwise.
        tolerance: of the largest difference, relative where values exceed 1.
        labels: of the batch.
        shows: the least difference that a stated disagreement makes.
    """

    key: str
    name: str
    build: Callable[[], Callable[[Tensor, Tensor], Tensor]]
    options: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    tolerance: float = 1e-9
    labels: tuple[int, ...] = ()
    shows: float = 1e-3

    def finding(self) -> Finding:
        """Compare value and gradient; a stated disagreement has to show."""
        case = self._batch()
        ours = make(self.key, **self.options)
        theirs = with_centers(ours, self.build())
        first, second = _measure(ours, case), _measure(theirs, case)
        error = float(((first - second).abs() / second.abs().clamp(min=1.0)).max())
        with_ours = ", ".join(f"{name}={value}" for name, value in self.options.items())
        name = f"{self.name}, with {with_ours} here" if with_ours else self.name
        if not self.why:
            return measured("library", name, error, self.tolerance)
        return Finding("deviation", name, error > self.shows, note=self.why)

    def _batch(self) -> Batch:
        if not self.labels:
            return batch("clustered")
        x = torch.randn(len(self.labels), DIM, generator=generator(31), dtype=torch.float64)
        return Batch("grouped", x, torch.tensor(self.labels))


def rivals(key: str) -> list[Rival]:
    """Return the classes to compare the loss ``key`` with."""
    return [rival for rival in _rivals() if rival.key == key and key in LOSSES]


class Mined(nn.Module):
    """A loss of the library behind one of its miners."""

    def __init__(self, miner: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.miner, self.loss = miner, loss

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the loss of what the miner picks."""
        value: Tensor = self.loss(x, y, self.miner(x, y))
        return value


def _measure(loss: Callable[[Tensor, Tensor], Tensor], case: Batch) -> Tensor:
    x = case.x.clone().requires_grad_()
    value = loss(x, case.y)
    (gradient,) = torch.autograd.grad(value, x)
    return torch.cat([value.detach().double().reshape(1), gradient.flatten()])


def with_centers(ours: Loss, theirs: Any) -> Any:
    """Give the library's loss our centers: (D, C) for softmax losses, (C, D) for proxies, (D, C K) for SoftTriple."""
    name = next((name for name in ("fc", "W", "proxies") if hasattr(theirs, name)), None)
    if name:
        rows = ours.get_parameter("centers").data.flatten(0, 1)
        getattr(theirs, name).data = rows if name == "proxies" else rows.T.contiguous()
    return theirs


def _rivals() -> list[Rival]:
    from pytorch_metric_learning import distances, losses, miners, reducers, regularizers

    def lp(power: int = 2, normalize: bool = True) -> Any:
        return distances.LpDistance(normalize_embeddings=normalize, power=power)

    def triplets(margin: float, distance: Any, **options: Any) -> Any:
        return losses.TripletMarginLoss(margin=margin, distance=distance, **options)

    def sizes(name: str, **options: Any) -> Callable[[], Any]:
        return lambda: getattr(losses, name)(num_classes=CLASSES, embedding_size=DIM, **options).double()

    degrees, mean = math.degrees(0.5), reducers.MeanReducer
    regularized = {
        "weight_regularizer": regularizers.SparseCentersRegularizer(CLASSES, 10),
        "weight_reg_weight": 0.2,
    }
    hard, semihard = lp(1, normalize=False), lp()
    inner = distances.DotProductSimilarity(normalize_embeddings=False)
    unequal = (0, 0, 1, 1, 2, 2, 3, 3)
    return [
        Rival("norm_softmax", "NormalizedSoftmaxLoss(temperature=0.05)", sizes("NormalizedSoftmaxLoss")),
        Rival("am_softmax", "CosFaceLoss(scale=30)", sizes("CosFaceLoss", scale=30)),
        Rival("arcface", f"ArcFaceLoss(margin={degrees:.4f})", sizes("ArcFaceLoss", margin=degrees)),
        Rival(
            "arcface",
            "ArcFaceLoss()",
            sizes("ArcFaceLoss"),
            why="its margin is in degrees, 28.6 by default, which is 0.49916 and not 0.5",
            shows=1e-4,
        ),
        Rival(
            "subcenter_arcface",
            f"SubCenterArcFaceLoss(margin={degrees:.4f})",
            sizes("SubCenterArcFaceLoss", margin=degrees),
        ),
        Rival("w_softmax", "SphereFaceLoss(margin=1, scale=1)", sizes("SphereFaceLoss", margin=1, scale=1)),
        Rival(
            "a_softmax",
            "SphereFaceLoss(margin=4, scale=1)",
            sizes("SphereFaceLoss", margin=4, scale=1),
            {"annealing": 0.0},
        ),
        Rival(
            "a_softmax",
            "SphereFaceLoss()",
            sizes("SphereFaceLoss", scale=1),
            why="it has no annealing, with which the authors train",
        ),
        Rival(
            "l_softmax",
            "LargeMarginSoftmaxLoss(margin=4, scale=1)",
            sizes("LargeMarginSoftmaxLoss", margin=4, scale=1),
            {"annealing": 0.0},
        ),
        Rival(
            "l_softmax",
            "LargeMarginSoftmaxLoss()",
            sizes("LargeMarginSoftmaxLoss", scale=1),
            why="it has no annealing, with which the authors train",
        ),
        Rival(
            "proxy_nca",
            "ProxyNCALoss(softmax_scale=9)",
            sizes("ProxyNCALoss", softmax_scale=9),
            why="it has the own class in the denominator, which makes it proxy_nca_pp",
        ),
        Rival("proxy_nca_pp", "ProxyNCALoss(softmax_scale=9)", sizes("ProxyNCALoss", softmax_scale=9)),
        Rival("softtriple", "SoftTripleLoss()", sizes("SoftTripleLoss"), {"regularizer_weight": 0.0}),
        Rival(
            "softtriple",
            "SoftTripleLoss with SparseCentersRegularizer",
            sizes("SoftTripleLoss", **regularized),
            tolerance=1e-4,
        ),
        Rival("softtriple", "SoftTripleLoss()", sizes("SoftTripleLoss"), why="the regularizer is absent by default"),
        Rival("proxy_anchor", "ProxyAnchorLoss()", sizes("ProxyAnchorLoss"), tolerance=1e-8),
        Rival("contrastive", "ContrastiveLoss()", losses.ContrastiveLoss, {"form": "linear"}),
        Rival(
            "contrastive",
            "ContrastiveLoss()",
            losses.ContrastiveLoss,
            why="distances are not squared, and either kind of pair is averaged over those that cost something",
        ),
        Rival("triplet_all", "TripletMarginLoss(margin=0.2, LpDistance(power=2))", lambda: triplets(0.2, lp())),
        Rival(
            "triplet_all",
            "TripletMarginLoss()",
            losses.TripletMarginLoss,
            why="margin 0.05 between distances that are not squared",
        ),
        Rival(
            "triplet_batch_hard",
            "BatchHardMiner, TripletMarginLoss(margin=0, smooth_loss=True), MeanReducer",
            lambda: Mined(miners.BatchHardMiner(distance=hard), triplets(0.0, hard, smooth_loss=True, reducer=mean())),
            tolerance=1e-7,
        ),
        Rival(
            "triplet_semihard",
            "TripletMarginMiner(semihard), TripletMarginLoss(margin=0.2), MeanReducer",
            lambda: Mined(
                miners.TripletMarginMiner(margin=0.2, type_of_triplets="semihard", distance=semihard),
                triplets(0.2, semihard, reducer=mean()),
            ),
            {"pick": "all"},
        ),
        Rival(
            "triplet_semihard",
            "TripletMarginMiner(semihard), TripletMarginLoss(margin=1), MeanReducer",
            lambda: Mined(
                miners.TripletMarginMiner(margin=1, type_of_triplets="semihard", distance=semihard),
                triplets(1.0, semihard, reducer=mean()),
            ),
            {"margin": 1.0},
            why="it takes every semi-hard triplet (pick=all), not the nearest negative of each pair",
        ),
        Rival("margin_loss", "MarginLoss()", losses.MarginLoss, {"sampling": "all"}, tolerance=1e-6),
        Rival(
            "multi_similarity",
            "MultiSimilarityMiner(epsilon=0.1), MultiSimilarityLoss()",
            lambda: Mined(miners.MultiSimilarityMiner(epsilon=0.1), losses.MultiSimilarityLoss()),
        ),
        Rival("multi_similarity", "MultiSimilarityLoss()", losses.MultiSimilarityLoss, {"mining_epsilon": None}),
        Rival(
            "multi_similarity",
            "MultiSimilarityLoss()",
            losses.MultiSimilarityLoss,
            why="it takes all pairs unless a miner is given; its beta=50, as here, is 40 in the authors' code",
            shows=1e-4,
        ),
        Rival(
            "margin_loss",
            "MarginLoss()",
            losses.MarginLoss,
            why="all triplets count unless a miner is given; its beta is fixed unless asked for, as here, where the "
            "authors learn it",
        ),
        Rival("circle", "CircleLoss()", losses.CircleLoss),
        Rival(
            "circle",
            "CircleLoss(gamma=20000)",
            lambda: losses.CircleLoss(gamma=20000),
            {"scale": 20000.0},
            why="its mean leaves out anchors whose cost underflows to 0 (AvgNonZeroReducer)",
        ),
        Rival("supcon", "SupConLoss()", losses.SupConLoss),
        Rival(
            "supcon",
            "SupConLoss() on one class",
            losses.SupConLoss,
            labels=(0, 0, 0, 0),
            why="it gives 0 for a batch without negatives",
        ),
        Rival("npair", "NPairsLoss(DotProductSimilarity)", lambda: losses.NPairsLoss(distance=inner)),
        Rival(
            "npair",
            "NPairsLoss()",
            losses.NPairsLoss,
            why="it normalises, without a temperature, so that the loss cannot come near 0",
        ),
        Rival(
            "smooth_ap",
            "SmoothAPLoss(), three classes of three",
            losses.SmoothAPLoss,
            {"include_query": True},
            labels=(0, 0, 0, 1, 1, 1, 2, 2, 2),
            tolerance=1e-5,
        ),
        Rival(
            "smooth_ap",
            "SmoothAPLoss(), four classes of two",
            losses.SmoothAPLoss,
            {"include_query": True},
            labels=unequal,
            why="it groups the batch wrongly unless there are as many classes as images of each",
        ),
    ]
