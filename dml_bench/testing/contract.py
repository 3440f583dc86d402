"""The rules every loss obeys, for the author of one: ``check_loss`` names the rule that is broken."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dml_bench.errors import ContractError, DataError
from dml_bench.losses import LOSSES, Loss, Task
from dml_bench.registry import Entry
from dml_bench.testing.cases import CLASSES, COUNTS, DIM, batch, batches


@dataclass(frozen=True)
class Plan:
    """What is tested: ``make`` builds the loss from a seed."""

    name: str
    entry: Entry[Loss]
    options: dict[str, Any]

    def make(self, seed: int = 0, order: Tensor | None = None) -> Loss:
        """Build the loss in float64, with classes in another order; its tensors are drawn from ``seed``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            counts = torch.tensor(COUNTS)
            task = Task(CLASSES, DIM, counts if order is None else counts[order])
            return self.entry.build(task, **self.options).double()


def check_loss(loss: str | Callable[..., Loss], **options: Any) -> None:
    """Run the rules every loss obeys: for the tests of a loss of your own.

    Args:
        loss: a registered name, or a factory ``(task: Task, /, *, ...) -> Loss``.
        options: options of the loss, where its defaults are not to be tested.

    Raises:
        ContractError: for the first rule that is broken, which it names.
        OptionError: for an unknown name or wrong options.

    Example:
        >>> from dml_bench.testing import check_loss
        >>> check_loss("softtriple", centers_per_class=2)
    """
    entry = LOSSES[loss] if isinstance(loss, str) else Entry(getattr(loss, "__name__", "loss"), loss)
    plan = Plan(entry.name, entry, options)
    entry.check(options)
    for rule in RULES:
        try:
            broken = rule(plan)
        except Exception as error:
            broken = f"{type(error).__name__}: {error}"
        if broken:
            sentence = (rule.__doc__ or "").strip().rstrip(".")
            raise ContractError(f"'{plan.name}' breaks the rule \"{sentence}\": {broken}")


def finite(plan: Plan) -> str:
    """The value is one finite number on any batch, and so are all gradients."""
    for case in batches():
        loss, x = plan.make(), case.x.requires_grad_()
        value = loss(x, case.y)
        if value.ndim or not value.isfinite():
            return f"{value} on the batch '{case.name}' with labels {case.y.tolist()}"
        value.backward()
        if not all(t.grad.isfinite().all() for t in (x, *loss.parameters()) if t.grad is not None):
            return f"a gradient on the batch '{case.name}' with labels {case.y.tolist()} is not"
    return ""


def reaches(plan: Plan) -> str:
    """Gradients reach the embeddings and every parameter."""
    loss, case = plan.make(), batch("clustered")
    x = case.x.requires_grad_()
    loss(x, case.y).backward()
    still = [name for name, p in loss.named_parameters() if p.requires_grad and _flat(p.grad)]
    learns_only_centers = _flat(x.grad) and bool(list(loss.parameters()))
    if still or (_flat(x.grad) and not learns_only_centers):
        return f"none reaches {', '.join(still) or 'the embeddings'}"
    return ""


def sums(plan: Plan) -> str:
    """The terms add up to the loss."""
    for case in batches():
        loss = plan.make()
        total, value = sum(loss.terms(case.x, case.y).values()), loss(case.x, case.y)
        if not torch.allclose(torch.as_tensor(total), value, rtol=1e-13, atol=1e-13):
            return f"{total} is not {value} on the batch '{case.name}'"
    return ""


def indices(plan: Plan) -> str:
    """Positions in the training set are accepted."""
    case = batch("clustered")
    plan.make()(case.x, case.y, torch.arange(len(case.y)))
    return ""


def narrow(plan: Plan) -> str:
    """Embeddings in float32, float16 and bfloat16 are computed in float32, and agree with float64."""
    case = batch("clustered")
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        x = case.x.to(dtype)
        value, exact = plan.make().float()(x, case.y), plan.make()(x.double(), case.y)
        if value.dtype != torch.float32 or not torch.allclose(value.double(), exact, rtol=1e-3, atol=1e-4):
            return f"{dtype} gives {value.item()} in {value.dtype}, float64 gives {exact.item()}"
    return ""


def round_trip(plan: Plan) -> str:
    """The state holds all there is: loaded into another, copied or pickled, the loss is the same."""
    loss, other, case = plan.make(0), plan.make(1), batch("clustered")
    other.load_state_dict(loss.state_dict())
    twins = {"loaded": other, "copied": copy.deepcopy(loss), "pickled": pickle.loads(pickle.dumps(loss))}
    values = {name: twin(case.x, case.y).item() for name, twin in twins.items()}
    wanted = loss(case.x, case.y).item()
    wrong = [f"{name} it gives {value}, not {wanted}" for name, value in values.items() if value != wanted]
    return "; ".join(wrong)


def groups(plan: Plan) -> str:
    """Every parameter has one optimizer group to itself, whose learning rate follows the one asked for."""
    loss = plan.make()
    slow, fast = loss.param_groups(0.5), loss.param_groups(1.0)
    held = [p for group in slow for p in group["params"]]
    lost = [name for name, p in loss.named_parameters() if sum(p is q for q in held) != 1]
    shared = [str(group.get("name")) for group in slow if len(group["params"]) != 1]
    fixed = [str(a.get("name")) for a, b in zip(slow, fast, strict=True) if not 0 < 2 * a["lr"] == b["lr"]]
    return f"not so: {', '.join(dict.fromkeys(lost + shared + fixed))}" if lost + shared + fixed else ""


def renamed(plan: Plan) -> str:
    """Names of classes do not matter: permuted in labels and in all that the loss holds, the loss is the same."""
    order = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(0))
    for case in batches():
        loss, other = plan.make(), plan.make(order=order)
        if any(True for _ in loss.parameters()) and not any(CLASSES in t.shape for t in loss.state_dict().values()):
            return ""  # nothing shows where its classes are
        for name, tensor in [*other.named_parameters(), *other.named_buffers()]:
            tensor.data = _permuted(loss.state_dict()[name], order)
        value, again = loss(case.x, case.y), other(case.x, order.argsort()[case.y])
        if not torch.allclose(value, again, rtol=1e-9, atol=1e-9):
            return f"{again.item()} is not {value.item()} on the batch '{case.name}'"
    return ""


def refuses(plan: Plan) -> str:
    """Labels and embeddings that cannot be right are refused with a DataError."""
    x, y = torch.randn(4, DIM, dtype=torch.float64), torch.tensor([0, 0, 1, 1])
    wrong: dict[str, tuple[Tensor, Tensor]] = {
        f"label {CLASSES} of {CLASSES} classes": (x, torch.tensor([0, 0, 1, CLASSES])),
        "label -1": (x, torch.tensor([0, 0, 1, -1])),
        "labels of another length": (x, y[:3]),
        "labels in floating point": (x, y.double()),
        "embeddings of another width": (x[:, 1:], y),
        "embeddings of integers": (x.long(), y),
        "embeddings that are NaN": (x * torch.nan, y),
    }
    for what, (embeddings, labels) in wrong.items():
        try:
            plan.make()(embeddings, labels)
        except DataError:
            continue
        except Exception as error:
            return f"{what} raise {type(error).__name__}: {error}"
        return f"{what} are taken without a word"
    return ""


def _flat(gradient: Tensor | None) -> bool:
    return gradient is None or not bool(gradient.any())


def _permuted(tensor: Tensor, order: Tensor) -> Tensor:
    """Permute every axis that has an entry per class."""
    for axis, size in enumerate(tensor.shape):
        if size == CLASSES:
            tensor = tensor.index_select(axis, order)
    return tensor


RULES: list[Callable[[Plan], str]] = [
    finite,
    reaches,
    sums,
    indices,
    narrow,
    round_trip,
    groups,
    renamed,
    refuses,
]
"""Each returns what is wrong, or nothing; its docstring is the rule."""
