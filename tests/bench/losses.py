"""Measure losses beside other implementations, in one process with two threads: forward and backward.

Run it all by ``tox -e bench``, or a part by ``python tests/bench/losses.py softtriple proxy_anchor``. The rival is the
fastest correct public form known for that loss; where it needs gigabytes it runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dml_bench.losses import LOSSES, build

HEAD = """# Losses beside their rivals

Written by `python tests/bench/losses.py > results/benchmarks/losses.md`: one forward and backward pass in float32, ours
and the rival's in turns in one process, the fastest step of either; where memory is told, each in a process of its own.
C classes, D dimensions, N embeddings; the ratio is theirs / ours, and `wanted` what it is to reach.
"""

SMALL, LARGE = (100, 512, 128), (11318, 128, 128)
"""Classes, dimensions and batch size: CUB-like, and Stanford Online Products."""


@dataclass(frozen=True)
class Duel:
    """A loss of ours beside a rival.

    Args:
        key: our loss.
        sizes: classes C, dimensions D, batch size N.
        rival: its name, as printed.
        build: ``(C, D) -> module`` of the rival.
        options: of our loss.
        apart: whether the rival runs in a process of its own, because of the memory it takes.
        wanted: the least ratio of times (theirs / ours) asked for.
    """

    key: str
    sizes: tuple[int, int, int]
    rival: str
    build: Callable[[int, int], nn.Module]
    options: dict[str, Any] = field(default_factory=dict)
    apart: bool = False
    wanted: float = 0.9


class Plain(nn.Module):
    """Softmax by ``F.linear`` and ``F.cross_entropy``, the shortest correct form; ``unit`` says what is normalised."""

    def __init__(
        self,
        num_classes: int,
        dim: int,
        *,
        unit: str = "xw",
        scale: float = 1.0,
        bias: bool = False,
        class_weights: bool = False,
    ) -> None:
        super().__init__()
        self.class_weights = torch.ones(num_classes) if class_weights else None
        self.weight = nn.Parameter(torch.randn(num_classes, dim))
        self.bias = nn.Parameter(torch.zeros(num_classes)) if bias else None
        self.unit, self.scale = unit, scale

    def logits(self, x: Tensor) -> Tensor:
        """Return the scaled logits."""
        x = F.normalize(x) if "x" in self.unit else x
        weight = F.normalize(self.weight) if "w" in self.unit else self.weight
        return self.scale * F.linear(x, weight, self.bias)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        if self.class_weights is None:
            return F.cross_entropy(self.logits(x), y)
        return F.cross_entropy(self.logits(x), y, self.class_weights, reduction="sum") / len(y)


class Rows(Plain):
    """A plain softmax whose rows are combined by a function of (rows, logits, labels)."""

    def __init__(self, num_classes: int, dim: int, combine: Callable[..., Tensor], **options: Any) -> None:
        super().__init__(num_classes, dim, **options)
        self.combine = combine

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the combined cross-entropies."""
        logits = self.logits(x)
        return self.combine(F.cross_entropy(logits, y, reduction="none"), logits, y)


class Margined(Plain):
    """A plain softmax with the target changed, and harder negatives raised if ``t`` is above 1.

    ``beta`` below 1 trusts the labels only so far, and ``learned`` adds a margin per class that is rewarded.
    """

    def __init__(
        self,
        num_classes: int,
        dim: int,
        change: Callable[[Tensor], Tensor],
        scale: float,
        t: float = 1.0,
        *,
        unit: str = "xw",
        beta: float = 1.0,
        learned: bool = False,
    ) -> None:
        super().__init__(num_classes, dim, unit=unit)
        self.change, self.factor, self.t, self.beta = change, scale, t, beta
        self.margins = nn.Parameter(torch.full((num_classes,), 0.35)) if learned else None

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean cross-entropy with the margin."""
        logits = self.margined(x, y)
        if self.beta < 1:
            trusted, own = (F.cross_entropy(logits, aim) for aim in (y, logits.argmax(1)))
            return self.beta * trusted + (1 - self.beta) * own
        value = F.cross_entropy(logits, y)
        return value if self.margins is None else value - 20 * self.margins.mean()

    def margined(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the scaled logits with the margin on the target."""
        cosines = self.logits(x)
        rows = torch.arange(len(y))
        target = self.change(cosines[rows, y])
        if self.margins is not None:
            target = target - self.margins[y]
        if self.t > 1:
            cosines = torch.where(cosines > target[:, None], self.t * cosines + self.t - 1, cosines)
        margined = cosines.index_put((rows, y), target)
        return self.factor * margined


class Mined(nn.Module):
    """A loss of pytorch-metric-learning behind one of its miners."""

    def __init__(self, miner: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.miner, self.loss = miner, loss

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the loss of what the miner picks."""
        return self.loss(x, y, self.miner(x, y))


def pml(name: str, **options: Any) -> Callable[[int, int], nn.Module]:
    """Return a builder of a class of pytorch-metric-learning that has proxies."""
    from pytorch_metric_learning import losses

    return lambda c, d: getattr(losses, name)(num_classes=c, embedding_size=d, **options)


def sparse_softtriple(k: int) -> Callable[[int, int], nn.Module]:
    """Return a builder of SoftTriple with its regularizer."""
    from pytorch_metric_learning import losses, regularizers

    def make(c: int, d: int) -> nn.Module:
        regularizer = regularizers.SparseCentersRegularizer(c, k)
        return losses.SoftTripleLoss(c, d, k, weight_regularizer=regularizer, weight_reg_weight=0.2)

    return make


def duels() -> list[Duel]:
    """Return everything there is to measure."""
    from pytorch_metric_learning import distances, losses, miners, reducers

    squared = distances.LpDistance(power=2)
    found = [
        Duel("softtriple", (100, 512, 32), "PML SoftTripleLoss + regularizer", sparse_softtriple(10), wanted=4),
        Duel(
            "softtriple",
            (11318, 64, 32),
            "PML SoftTripleLoss + regularizer",
            sparse_softtriple(2),
            {"centers_per_class": 2},
            apart=True,
            wanted=50,
        ),
        Duel(
            "proxy",
            (1_000_000, 128, 128),
            "softmax over all classes",
            lambda c, d: Plain(c, d, unit=""),
            {"sampled_classes": 10_000, "scale": 20.0},
            apart=True,
            wanted=10,
        ),
    ]
    for size in (SMALL, LARGE):
        found += [Duel(key, size, name, make, options) for key, name, make, options in _proxy_rivals()]
    pairs: list[tuple[str, str, Callable[[], nn.Module], dict[str, Any]]] = [
        (
            "multi_similarity",
            "PML with miner",
            lambda: Mined(miners.MultiSimilarityMiner(), losses.MultiSimilarityLoss()),
            {},
        ),
        (
            "triplet_semihard",
            "PML with miner",
            lambda: Mined(
                miners.TripletMarginMiner(0.2, type_of_triplets="semihard", distance=squared),
                losses.TripletMarginLoss(0.2, distance=squared, reducer=reducers.MeanReducer()),
            ),
            {},
        ),
        ("circle", "PML CircleLoss", losses.CircleLoss, {}),
    ]
    for dim in (64, 512):
        for key, name, make, options in pairs:
            found.append(Duel(key, (64, dim, 256), name, lambda c, d, make=make: make(), options))
        found.append(Duel("proxy_anchor", (100, dim, 256), "PML ProxyAnchorLoss", pml("ProxyAnchorLoss")))
    return [duel for duel in found if duel.key in LOSSES]


def _proxy_rivals() -> list[tuple[str, str, Callable[[int, int], nn.Module], dict[str, Any]]]:
    """Return key, name, builder and our options for every softmax and proxy loss."""

    def plain(**options: Any) -> Callable[[int, int], nn.Module]:
        return lambda c, d: Plain(c, d, **options)

    def rows(combine: Callable[..., Tensor], **options: Any) -> Callable[[int, int], nn.Module]:
        return lambda c, d: Rows(c, d, combine, **options)

    def focal(losses: Tensor, logits: Tensor, y: Tensor) -> Tensor:
        return ((1 - (-losses).exp()).square() * losses).mean()

    def hardest(losses: Tensor, logits: Tensor, y: Tensor) -> Tensor:
        return losses.topk(int(0.7 * len(losses))).values.mean()

    def arc(cosine: Tensor) -> Tensor:
        return (cosine.clamp(-1 + 1e-7, 1 - 1e-7).acos() + 0.5).cos()

    def margined(
        change: Callable[[Tensor], Tensor], scale: float, t: float = 1.0, **options: Any
    ) -> Callable[[int, int], nn.Module]:
        return lambda c, d: Margined(c, d, change, scale, t, **options)

    softmax = "F.linear + F.cross_entropy"
    unit = "F.normalize + " + softmax
    return [
        ("softmax_ce", softmax, plain(unit="", bias=True), {}),
        ("w_softmax", unit, plain(unit="w"), {}),
        ("l2_softmax", unit, plain(unit="x", scale=16.0, bias=True), {}),
        ("norm_softmax", unit, plain(scale=20.0), {}),
        ("norm_softmax", "PML NormalizedSoftmaxLoss", pml("NormalizedSoftmaxLoss"), {}),
        ("coco", unit, plain(scale=7.0), {}),
        ("ohem", softmax + " + topk", rows(hardest, unit="", bias=True), {}),
        ("focal", softmax + " + focal", rows(focal, unit="", bias=True), {}),
        ("class_balanced", softmax + " + weights", plain(unit="", bias=True, class_weights=True), {}),
        ("nra", unit + " twice + acos", margined(arc, 64.0, beta=0.9), {}),
        ("sm_softmax", softmax + " + margin", margined(lambda z: z - 0.5, 1.0, unit=""), {}),
        ("am_softmax", unit + " + margin", margined(lambda c: c - 0.35, 30.0), {}),
        ("am_softmax", "PML CosFaceLoss", pml("CosFaceLoss"), {}),
        ("arcface", unit + " + acos", margined(arc, 64.0), {}),
        ("arcface", "PML ArcFaceLoss", pml("ArcFaceLoss"), {}),
        ("combined_margin", unit + " + acos", margined(lambda c: arc(c) - 0.2, 64.0), {}),
        ("adaptiveface", unit + " + margins", margined(lambda c: c, 30.0, learned=True), {}),
        ("sv_softmax", unit + " + where", margined(lambda c: c, 30.0, 1.2), {}),
        ("sv_am_softmax", unit + " + margin + where", margined(lambda c: c - 0.35, 30.0, 1.2), {}),
        ("sv_arc_softmax", unit + " + acos + where", margined(arc, 30.0, 1.2), {}),
        ("l_softmax", "PML LargeMarginSoftmaxLoss", pml("LargeMarginSoftmaxLoss"), {}),
        ("a_softmax", "PML SphereFaceLoss", pml("SphereFaceLoss"), {}),
        ("af_softmax", "PML SphereFaceLoss", pml("SphereFaceLoss"), {}),
        ("proxy_nca", "PML ProxyNCALoss", pml("ProxyNCALoss", softmax_scale=9), {}),
        ("proxy_nca_pp", "PML ProxyNCALoss", pml("ProxyNCALoss", softmax_scale=9), {}),
        ("proxy_nca_pp", unit, plain(scale=18.0), {}),
        ("softtriple", "PML SoftTripleLoss", pml("SoftTripleLoss", centers_per_class=3), _three(0.0)),
        ("hardtriple", "PML SubCenterArcFaceLoss", pml("SubCenterArcFaceLoss", sub_centers=3), _three(0.0)),
        ("subcenter_arcface", "PML SubCenterArcFaceLoss", pml("SubCenterArcFaceLoss", sub_centers=3), {}),
        ("proxy_anchor", "PML ProxyAnchorLoss", pml("ProxyAnchorLoss"), {}),
    ]


def _three(weight: float) -> dict[str, Any]:
    return {"centers_per_class": 3, "regularizer_weight": weight}


def with_our_centers(ours: nn.Module, theirs: nn.Module) -> None:
    """Give the rival our centers: far longer ones make denormal gradients, which are slow."""
    centers = getattr(ours, "centers", None)
    for parameter in theirs.parameters():
        if centers is not None and parameter.numel() == centers.numel():
            rows = centers.data.flatten(0, -2)
            parameter.data = (rows if len(parameter) == len(rows) else rows.T).contiguous()


def step(loss: nn.Module, x: Tensor, y: Tensor) -> None:
    """Do one forward and backward pass."""
    for tensor in (x, *loss.parameters()):
        tensor.grad = None
    loss(x, y).backward()


def race(first: nn.Module, second: nn.Module, x: Tensor, y: Tensor, seconds: float) -> tuple[float, float]:
    """Return the fastest step of either in milliseconds, measured in turns so that both meet the same machine.

    Whatever else runs on the machine only ever adds time, so the fastest step tells most.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for loss in (first, second):
        step(loss, x, y)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for loss, kept in zip((first, second), times, strict=True):
            start = time.perf_counter()
            step(loss, x, y)
            kept.append(1000 * (time.perf_counter() - start))
    return min(times[0]), min(times[1])


def alone(duel: Duel, side: str) -> tuple[float, float]:
    """Return the fastest step in milliseconds and the peak MiB above the parameters, in a process of its own."""
    command = [sys.executable, __file__, "--alone", json.dumps([duel.key, duel.sizes, side])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    milliseconds, mebibytes = json.loads(done.stdout)
    return milliseconds, mebibytes


def measure_alone(key: str, sizes: list[int], side: str) -> tuple[float, float]:
    """Measure one side of a duel here, and tell the memory that building it and its steps add to the parameters."""
    duel = next(d for d in duels() if d.key == key and list(d.sizes) == sizes and d.apart)
    c, d, n = duel.sizes
    before, times = _peak(), []
    loss = build(key, c, d, **duel.options) if side == "ours" else duel.build(c, d)
    before += sum(tensor.nbytes for tensor in loss.parameters()) / 2**20
    x, y = batch(c, d, n)
    for _ in range(20 if side == "ours" else 2):
        start = time.perf_counter()
        step(loss, x, y)
        times.append(1000 * (time.perf_counter() - start))
    return min(times), _peak() - before


def batch(c: int, d: int, n: int) -> tuple[Tensor, Tensor]:
    """Draw embeddings and labels, four images of a class."""
    torch.manual_seed(0)
    classes = torch.randperm(c)[: max(n // 4, 1)]
    return torch.randn(n, d, requires_grad=True), classes.repeat_interleave(4)[:n]


def machine() -> str:
    """Name the processor, the threads and the versions."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")] or [platform.machine()]
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "pytorch-metric-learning"))
    return f"{names[0]}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, {versions}."


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print one row per duel."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("keys", nargs="*", help="losses to measure; by default all")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each duel")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.alone:
        print(json.dumps(measure_alone(*json.loads(options.alone))))
        return
    print(f"{HEAD}\n{machine()}\n")
    print("| loss | C, D, N | rival | ours, ms | rival, ms | ratio | wanted | |\n|---|---|---|---|---|---|---|---|")
    for duel in duels():
        if options.keys and duel.key not in options.keys:
            continue
        c, d, n = duel.sizes
        note = ""
        if duel.apart:
            (ours, own), (theirs, other) = alone(duel, "ours"), alone(duel, "theirs")
            note = f"; peak above parameters {own:.0f} MiB, rival {other:.0f} MiB"
        else:
            pair = build(duel.key, c, d, class_counts=torch.ones(c), **duel.options), duel.build(c, d)
            with_our_centers(*pair)
            ours, theirs = race(*pair, *batch(c, d, n), seconds=options.seconds)
        ratio = theirs / ours
        verdict = "ok" if ratio >= duel.wanted else "SLOW"
        row = f"| {duel.key} | {c}, {d}, {n} | {duel.rival} | {ours:.2f} | {theirs:.2f} | {ratio:.2f} | {duel.wanted:g}"
        print(f"{row} | {verdict}{note} |", flush=True)


if __name__ == "__main__":
    main()
