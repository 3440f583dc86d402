"""The checks of a conformance card: a new one is a function from a key to findings, and a line in ``CHECKS``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch

from dml_bench.errors import ContractError
from dml_bench.losses.dense import USUAL_MARK
from dml_bench.testing import vectors
from dml_bench.testing.cases import LEFT_OUT, batch, batches, dense, extreme, make
from dml_bench.testing.contract import check_loss
from dml_bench.testing.faults import faults
from dml_bench.testing.finding import Finding, measured
from dml_bench.testing.identities import identities
from dml_bench.testing.library import rivals
from dml_bench.testing.oracle import classes
from dml_bench.testing.orders import orders
from dml_bench.testing.reference import gradient_error, gradients_of, has_reference, tensors_of, value_error
from dml_bench.testing.upkeep import upkeep
from dml_bench.testing.variants import CONSTANT_WEIGHTS, gradient_is_that_of_the_value, normalises, pole_bound, variants


def contract(key: str) -> Iterator[Finding]:
    """Run the rules every loss obeys."""
    try:
        check_loss(key, **variants(key)[0])
    except ContractError as error:
        yield Finding("contract", "rules every loss obeys", False, note=str(error))
    else:
        yield Finding("contract", "rules every loss obeys", True)


def value(key: str) -> Iterator[Finding]:
    """Compare values with plain loops, with every set of options on every batch."""
    if not has_reference(key):
        return
    for options in variants(key):
        loss = make(key, **options)
        for case in batches():
            error = value_error(key, loss, case, options)
            yield measured("value", f"{options} on batch '{case.name}'", error, 1e-10)


def value_at_poles(key: str) -> Iterator[Finding]:
    """Compare values with plain loops for embeddings at, near and opposite to the centers."""
    loss = make(key, **variants(key)[0])
    if has_reference(key) and hasattr(loss, "centers"):
        error = value_error(key, loss, extreme(loss), variants(key)[0])
        yield measured("poles", "value at 0 and 180 degrees", error, pole_bound(key))


def gradient(key: str) -> Iterator[Finding]:
    """Compare gradients by embeddings and learned tensors with finite differences of the plain loops."""
    if not has_reference(key):
        return
    for options in variants(key):
        if not gradient_is_that_of_the_value(options):
            continue
        loss = make(key, **options)
        for name in ("clustered", "unbalanced", "three"):
            error = gradient_error(key, loss, batch(name), options)
            yield measured("gradient", f"{options} on batch '{name}'", error, 1e-7)


def published(key: str) -> Iterator[Finding]:
    """Compare with the published values and gradient norms."""
    for vector in vectors.of(key):
        errors = vectors.errors(vector)
        what = f"vector {vector}"
        yield measured("value", what, errors.pop("value"), 1e-9)
        yield measured("gradient", what, max(errors.values()), 1e-9)


def gradcheck(key: str) -> Iterator[Finding]:
    """Let torch compare the gradient with finite differences of the loss itself."""
    options = variants(key)[0]
    if has_reference(key) and key not in CONSTANT_WEIGHTS:
        loss, case = make(key, **options), batch("clustered")
        x = case.x.requires_grad_()
        passed = torch.autograd.gradcheck(lambda x: loss(x, case.y), x, raise_exception=False)
        yield Finding("gradcheck", "torch.autograd.gradcheck", passed)


def equal_losses(key: str) -> Iterator[Finding]:
    """Compare the loss with another one that it must equal."""
    for identity in identities(key):
        error = max(identity.error(case) for case in batches())
        yield measured("identity", str(identity), error, identity.tolerance)


def order(key: str) -> Iterator[Finding]:
    """Raise an option step by step; the loss must not move the wrong way."""
    for line in orders(key):
        yield Finding("order", str(line), all(line.holds(case) for case in batches()))


def length(key: str) -> Iterator[Finding]:
    """Change the length of embeddings; a loss that normalises them must not notice, nor pull them outwards."""
    if normalises(key):
        loss, case = make(key, **variants(key)[0]), batch("clustered")
        pull = gradients_of(loss, case)["x"]
        outwards = (pull * case.x).sum(dim=1).abs().max() / pull.norm(dim=1).max().clamp(min=1.0)
        lengths = torch.linspace(0.1, 9.0, len(case.y), dtype=torch.float64)[:, None]
        change = (loss(lengths * case.x, case.y) - loss(case.x, case.y)).abs()
        error = float(torch.maximum(outwards, change.detach()))
        yield measured("invariant", "the same value for embeddings of any length", error, 1e-9)


def single_precision(key: str) -> Iterator[Finding]:
    """Compare float32, and float32 of bfloat16 embeddings, with float64."""
    options, case = variants(key)[0], batch("clustered")
    exact, narrow = make(key, **options), make(key, **options).float()
    for dtype in (torch.float32, torch.bfloat16):
        x = case.x.to(dtype)
        wanted = float(exact(x.double(), case.y).detach())
        error = abs(float(narrow(x, case.y).detach()) - wanted) / max(1.0, abs(wanted))
        yield measured("float32", str(dtype).removeprefix("torch."), error, 1e-4)


def poles(key: str) -> Iterator[Finding]:
    """Ask for finite gradients at, near and opposite to the centers, where angles have no derivative."""
    for dtype in (torch.float32, torch.float64):
        for options in variants(key):
            loss = make(key, **options).to(dtype)
            case = extreme(loss)
            x = torch.cat([case.x, 0 * case.x[:1]]).to(dtype).requires_grad_()
            loss(x, torch.cat([case.y, case.y[:1]])).backward()
            tensors = [x, *loss.parameters()]
            passed = all(bool(t.grad.isfinite().all()) for t in tensors if t.grad is not None)
            yield Finding("poles", f"finite at the poles, {options} in {dtype}", passed)


def class_scores(key: str) -> Iterator[Finding]:
    """Compare the scores of the classes with plain loops; no margin counts in them."""
    for options in variants(key) if has_reference(key) else []:
        loss, case = make(key, **options), batch("clustered")
        answer: Any = getattr(loss, "class_scores", None)
        if answer is None:
            continue
        tensors = {name: tensor.tolist() for name, tensor in tensors_of(loss, case).items()}
        given = {name: tensors.get(name) for name in ("x", "centers", "bias", "scale")}
        wanted = torch.tensor(classes.class_scores(key, **given, options=options), dtype=torch.float64)
        error = (answer(case.x) - wanted).abs() / wanted.abs().clamp(min=1.0)
        yield measured("scores", f"class_scores, {options}", float(error.detach().max()), 1e-9)


def pixels(key: str) -> Iterator[Finding]:
    """Compare a dense batch with its pixels one by one; those left out must not count, nor get a gradient."""
    for options in variants(key):
        loss = make(key, **options)
        if not loss.takes_pixels:
            continue
        x, y = dense()
        flat = [(x[n, :, i, j], y[n, i, j]) for n, i, j in product(*map(range, y.shape)) if y[n, i, j] != LEFT_OUT]
        one_by_one = loss(torch.stack([a for a, _ in flat]), torch.stack([label for _, label in flat]))
        (wanted,) = torch.autograd.grad(one_by_one, x)
        for mark in (None, LEFT_OUT):
            whole = loss(x, y.where(y != LEFT_OUT, mark or USUAL_MARK), ignore_index=mark)
            (found,) = torch.autograd.grad(whole, x)
            error = max(float((whole - one_by_one).abs().detach()), float((found - wanted).abs().max()))
            yield measured(
                "pixels", f"{options} as pixels, ignore_index={mark}", error / max(1.0, float(wanted.norm())), 1e-10
            )
            silent = not bool(found.movedim(1, -1)[y == LEFT_OUT].any())
            yield Finding("pixels", f"{options}, no gradient where left out, ignore_index={mark}", silent)


def library(key: str) -> Iterator[Finding]:
    """Compare with pytorch-metric-learning's class, which must agree or differ as stated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the library, about itself
        for rival in rivals(key):
            yield rival.finding()
        for fault in faults(key):
            yield fault.finding()


CHECKS: list[Callable[[str], Iterator[Finding]]] = [
    contract,
    value,
    value_at_poles,
    gradient,
    published,
    gradcheck,
    equal_losses,
    order,
    length,
    single_precision,
    poles,
    class_scores,
    pixels,
    upkeep,
    library,
]
