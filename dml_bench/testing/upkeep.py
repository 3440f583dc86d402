"""Checks of what a loss keeps up while training: after a step, after an epoch, and when it is loaded again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dml_bench.losses import Loss
from dml_bench.losses.hierarchy import LEVELS
from dml_bench.testing.cases import CLASSES, DIM, Batch, batch, make
from dml_bench.testing.finding import Finding, measured
from dml_bench.testing.oracle import queues, stateful, tuples
from dml_bench.testing.reference import tensors_of, value
from dml_bench.testing.training import Training
from dml_bench.testing.variants import Options, variants

STEPS = 3
DRAWS = 400


def upkeep(key: str) -> Iterator[Finding]:
    """Take steps and begin epochs; what changes must be what the plain loops say, and be saved with the rest."""
    for options in variants(key):
        yield from KEPT.get(key, _nothing)(key, options)
    for options in variants(key) if key in KEPT else variants(key)[:1]:
        yield loaded_again(key, options)


def loaded_again(key: str, options: Options) -> Finding:
    """Load the state of a loss that has seen a step and an epoch into a fresh one."""
    training = Training()
    loss, other = make(key, **options), make(key, seed=1, **options)
    case, positions = training.batch()
    loss(case.x, case.y, positions)
    loss.on_step()
    _begin(loss, training, epoch=2)
    other.load_state_dict(loss.state_dict())
    same = bool(loss(case.x, case.y, positions) == other(case.x, case.y, positions))
    return Finding("upkeep", f"{options}, loaded after a step and an epoch it is the same", same)


def annealing(key: str, options: Options) -> Iterator[Finding]:
    """Count the steps that an annealed margin goes by."""
    loss, case = make(key, **options), batch("clustered")
    for _ in range(STEPS):
        loss.on_step()
    yield _compare(key, options, loss, case, None, f"after {STEPS} steps", steps=torch.tensor(STEPS))


def learned_margins(key: str, options: Options) -> Iterator[Finding]:
    """Bring margins back into [0, 1], and keep up the rivals of each class."""
    loss = make(key, **options)
    margins = loss.get_parameter("margins").data
    margins.copy_(torch.linspace(-0.5, 1.5, CLASSES))
    loss.on_step()
    yield Finding("upkeep", f"{options}, margins stay in [0, 1]", margins.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0])
    if "candidates" in options:
        yield from rivals(options, make(key, **options))


def rivals(options: Options, loss: Loss) -> Iterator[Finding]:
    """Follow the queues through a step and an epoch in which the centers turned."""
    case, positions = Training().batch(0, 1, 2)
    centers, held = loss.get_parameter("centers").data, loss.get_buffer("negatives.queues")

    def is_held(wanted: list[list[int]], when: str) -> Finding:
        return Finding("upkeep", f"{options}, rivals {when}", held.tolist() == wanted)

    wanted = queues.nearest(centers.tolist(), options["candidates"])
    yield is_held(wanted, "at first")
    loss(case.x, case.y, positions)
    loss.on_step()
    wanted = queues.joined(wanted, case.x.tolist(), case.y.tolist(), centers.tolist())
    yield is_held(wanted, "after a step")
    centers.copy_(centers.roll(2, dims=-1))
    loss.on_epoch_start(Training().begin())
    yield is_held(queues.refreshed(wanted, centers.tolist()), "after an epoch")


def tree(key: str, options: Options) -> Iterator[Finding]:
    """Grow the tree of the classes."""
    loss, training = make(key, **options), Training()
    _begin(loss, training)
    joins, spreads = stateful.class_tree(training.x.tolist(), training.labels.tolist(), CLASSES, LEVELS)
    told = {"joins": _wide(joins), "spreads": _wide(spreads)}
    case, positions = training.batch()
    yield _compare(key, options, loss, case, positions, "with the tree of an epoch", **told)


def clusters(key: str, options: Options) -> Iterator[Finding]:
    """Find the groups that each class falls into."""
    loss, training = make(key, **options), Training()
    _begin(loss, training)
    case, positions = training.batch()
    told = {"clusters": training.groups[positions]}
    yield _compare(key, options, loss, case, positions, "with the clusters of an epoch", **told)


def uncertainty(key: str, options: Options) -> Iterator[Finding]:
    """Measure margins and penalties by passes with dropout."""
    loss, training = make(key, **options), Training()
    centers = loss.get_parameter("centers").detach()[:, 0].tolist()
    _begin(loss, training)
    case, positions = training.batch()
    passes, labels = [p.tolist() for p in training.passes], training.labels.tolist()
    margins = stateful.class_margins(passes, labels, CLASSES, options.get("margin_max", 3.0))
    penalties = stateful.penalties(passes, labels, centers, options.get("competitor", "hardest"))
    told = {"class_margins": _wide(margins), "penalties": _wide(penalties)[positions]}
    as_many = len(passes) == options.get("passes", 10)
    yield Finding("upkeep", f"{options}, as many passes as asked for", as_many)
    yield _compare(key, options, loss, case, positions, "with the margins and penalties of an epoch", **told)


def second_stage(key: str, options: Options) -> Iterator[Finding]:
    """Start the centers anew and leave out images that the old ones are not sure of."""
    if options.get("from_epoch") != 2:
        return
    loss, training = make(key, **options), Training()
    before, case = loss.get_parameter("centers").detach().clone(), training.batch()[0]
    _begin(loss, training)
    yield _compare(key, options, loss, case, None, "in the epoch before the second stage", stage=torch.tensor(1))
    _begin(loss, training, epoch=2)
    yield Finding("upkeep", f"{options}, new centers", not torch.equal(before, loss.get_parameter("centers")))
    sure = stateful.certainty(case.x.tolist(), before.tolist(), options.get("scale", 64.0))
    kept = torch.tensor([p >= options.get("drop_below", 0.0) for p in sure])
    wanted = value(
        key, tensors_of(loss, Batch("", case.x[kept], case.y)) | {"stage": torch.tensor(2)}, case.y[kept], options
    )
    yield _measured(options, "in the second stage", loss(case.x, case.y, training.batch()[1]), wanted)


def draws(key: str, options: Options) -> Iterator[Finding]:
    """Draw negatives anew in every step, each as often as its distance says; the margin keeps every term active."""
    if options != variants(key)[0]:
        return
    options = {"sampling": "distance", "margin": 5.0}
    loss, case = make(key, **options), batch("clustered")
    values = []
    for _ in range(DRAWS):
        values.append(loss(case.x, case.y).item())
        loss.on_step()
    sample = torch.tensor(values, dtype=torch.float64)
    error = abs(sample.mean().item() - tuples.expected_margin_loss(case.x.tolist(), case.y.tolist(), DIM, 5.0))
    spread = sample.std().item() / math.sqrt(DRAWS)
    yield Finding("upkeep", f"the mean of {DRAWS} draws is the expected one", spread > 0 and error < 4 * spread)


def _nothing(key: str, options: Options) -> Iterator[Finding]:
    return iter(())


def _wide(values: list[float] | list[list[float]]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _begin(loss: Loss, training: Training, epoch: int = 1) -> None:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(epoch)
        loss.on_epoch_start(training.begin(epoch))


def _compare(
    key: str, options: Options, loss: Loss, case: Batch, positions: Tensor | None, when: str, **told: Tensor
) -> Finding:
    wanted = value(key, tensors_of(loss, case) | told, case.y, options)
    return _measured(options, when, loss(case.x, case.y, positions), wanted)


def _measured(options: Options, when: str, found: Tensor, wanted: float) -> Finding:
    error = abs(found.item() - wanted) / max(1.0, abs(wanted))
    return measured("upkeep", f"{options} {when}", error, 1e-9)


KEPT: dict[str, Callable[[str, Options], Iterator[Finding]]] = {
    **dict.fromkeys(("l_softmax", "a_softmax", "af_softmax", "uniformface"), annealing),
    "adaptiveface": learned_margins,
    "htl": tree,
    "quintuplet": clusters,
    "uncertainty_softmax": uncertainty,
    "nra_two_stage": second_stage,
    "margin_loss": draws,
}
"""The losses that change while training, and how."""
