"""Angles of exactly 0 and 180 degrees, and nearly so, where a cosine in float64 tells the angle only to 1e-8."""

import math

import pytest
import torch

from dml_bench.losses import build

C, D = 5, 6
TINY = [0.0, 1e-12, 1e-9, 1e-6, 1e-3]


def directions():
    torch.manual_seed(3)
    return torch.randn(C, D, dtype=torch.float64), torch.randn(C, D, dtype=torch.float64)


def place(theta, *, opposite):
    """Return centers and one embedding per class at the angle ``theta`` to the own center, or to its opposite."""
    centers, others = directions()
    first = torch.nn.functional.normalize(centers)
    second = torch.nn.functional.normalize(others - (others * first).sum(1, keepdim=True) * first)
    x = (3.7 if not opposite else -0.6) * (math.cos(theta) * first + math.sin(theta) * second)
    return centers, x, math.pi - theta if opposite else theta


def falling(angle):
    k = min(math.floor(angle / math.pi), 10)
    return (-1) ** k * math.cos(angle) - 2 * k


def arc(theta, m, overflow="insightface"):
    if overflow == "easy":
        return math.cos(theta + m) if theta < math.pi / 2 else math.cos(theta)
    if overflow == "none" or theta <= math.pi - m:
        return math.cos(theta + m)
    return math.cos(theta) - m * math.sin(m) if overflow == "insightface" else -2 - math.cos(theta + m)


CASES = [
    *(("arcface", {"overflow": o}, 64, lambda t, o=o: arc(t, 0.5, o)) for o in ("insightface", "continuous", "easy")),
    ("arcface", {"overflow": "none", "margin": 1.0}, 64, lambda t: math.cos(t + 1.0)),
    ("combined_margin", {}, 64, lambda t: math.cos(t + 0.3) - 0.2),
    ("combined_margin", {"m1": 1.7, "overflow": "monotone"}, 64, lambda t: falling(1.7 * t + 0.3) - 0.2),
    ("subcenter_arcface", {}, 64, lambda t: arc(t, 0.5)),
    ("a_softmax", {"margin": 2.5, "annealing": 0.0, "scale": 64.0}, 64, lambda t: falling(2.5 * t)),
    ("a_softmax", {"margin": 4, "annealing": 0.0, "scale": 64.0}, 64, lambda t: falling(4 * t)),
    ("adaptiveface", {"angular": True, "margin_weight": 0.0}, 30, lambda t: math.cos(t + 0.35)),
    ("sv_arc_softmax", {"t": 1.0}, 30, lambda t: arc(t, 0.5)),
]


@pytest.mark.parametrize("opposite", [False, True])
@pytest.mark.parametrize("theta", TINY)
@pytest.mark.parametrize(("key", "options", "scale", "margined"), CASES, ids=[str(case[:2]) for case in CASES])
def test_values_are_right_to_1e_9(key, options, scale, margined, theta, opposite):
    centers, x, angle = place(theta, opposite=opposite)
    loss = build(key, C, D, **options).double()
    copies = loss.centers.shape[1]
    # Further centers are parallel: opposite to the first, or, where that would be nearer, along it.
    further = 1.5 * centers if opposite else -centers
    loss.centers.data = torch.stack([centers, *(further for _ in range(copies - 1))], dim=1)
    if loss.margins is not None:
        loss.margins.data.fill_(0.35)
    cosines = torch.nn.functional.cosine_similarity(x[:, None], centers[None], dim=2)
    cosines = cosines.abs() if copies > 1 and not opposite else cosines
    costs = []
    for i in range(C):
        others = [scale * cosines[i, j].item() for j in range(C) if j != i]
        target = scale * margined(angle)
        top = max(*others, target)
        costs.append(top + math.log(sum(math.exp(v - top) for v in (*others, target))) - target)
    x.requires_grad_()
    value = loss(x, torch.arange(C))
    assert value.item() == pytest.approx(sum(costs) / C, abs=1e-9)
    value.backward()
    assert x.grad.isfinite().all()
    assert loss.centers.grad.isfinite().all()
