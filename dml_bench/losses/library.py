"""Any loss of pytorch-metric-learning by its name, such as ``pml.CircleLoss``.

A recipe sets the arguments of the class's constructor; what is a part of its own, such as a miner or a distance, is a
choice with a name: ``{name: pml.CircleLoss, gamma: 64, miner: {name: MultiSimilarityMiner, epsilon: 0.2}}``. The
library is imported when a name of it is asked for.
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import torch
from jaxtyping import Float, Int
from pydantic import AfterValidator, BeforeValidator, WithJsonSchema
from torch import Tensor, nn

from dml_bench.errors import OptionError, Problem
from dml_bench.losses.library_notes import DIFFERS, UNFIT
from dml_bench.losses.loss import LOSSES, Loss, Task
from dml_bench.registry import Entry, Family, Finite, suggestion

PREFIX = "pml."
PARTS = {
    "loss": "losses",
    "miner": "miners",
    "distance": "distances",
    "reducer": "reducers",
    "embedding_regularizer": "regularizers",
    "weight_regularizer": "regularizers",
}
"""Arguments that are objects, and the module that has their classes."""
LISTS = {"losses": "losses", "miners": "miners"}
"""Arguments that are lists of objects."""
FACTS: dict[str, Callable[[Task], int]] = {
    "num_classes": lambda task: task.num_classes,
    "embedding_size": lambda task: task.embedding_dim,
    "descriptors_dim": lambda task: task.embedding_dim,
}
"""Arguments that the program supplies where a class takes them."""
FUNCTIONS = {"weight_init_func", "aggregation_func"}
"""Arguments that a recipe cannot say."""


class LibraryLoss(Loss):
    """A loss of pytorch-metric-learning behind the interface of this package.

    Args:
        task: the facts about the training set.
        loss: maps embeddings, labels and the miner's choice, or None, to a scalar.
        miner: maps embeddings and labels to its choice of pairs or triplets.
    """

    def __init__(self, task: Task, loss: nn.Module, miner: nn.Module | None = None) -> None:
        super().__init__(task)
        self.loss, self.miner = loss, miner

    def compute(
        self, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"], indices: Int[Tensor, " N"] | None
    ) -> dict[str, Tensor]:
        """Return the library's value."""
        chosen = None if self.miner is None else self.miner(embeddings, labels)
        return {"loss": self.loss(embeddings, labels, chosen).reshape(())}


@cache
def find(name: str) -> Entry[Loss]:
    """Return the entry of a loss of the library, by its name with prefix.

    Raises:
        OptionError: when there is none of that name, or one that needs more than embeddings and labels.
    """
    short = name.removeprefix(PREFIX)
    cls = _class("losses", short)
    parameters = _parameters(cls)
    own_miner = "miner" in parameters
    if not own_miner:
        parameters["miner"] = inspect.Parameter("miner", inspect.Parameter.KEYWORD_ONLY, default=None)

    def build(task: Task, **options: Any) -> Loss:
        miner = None if own_miner else _part(task, "miners", options.pop("miner"))
        return LibraryLoss(task, _make(cls, task, options), miner)

    return Entry(name, _with_signature(build, parameters, _doc(short)), refuse=lambda **options: _try(build, options))


def _class(kind: str, name: str) -> type[nn.Module]:
    """Return a class of the library's module ``kind`` by name."""
    known: dict[str, Any] = vars(import_module(f"pytorch_metric_learning.{kind}"))
    classes = [key for key, value in known.items() if inspect.isclass(value) and key not in UNFIT]
    if name in UNFIT:
        raise OptionError([Problem((), f"'{name}' cannot be used: {UNFIT[name]}")])
    if name not in classes:
        hint = f"{suggestion(name, classes)}; known: {', '.join(sorted(classes))}"
        raise OptionError([Problem((), f"pytorch-metric-learning has no {kind} named '{name}'{hint}")])
    found: type[nn.Module] = known[name]
    return found


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Return what the constructor takes by keyword, followed through the ``**kwargs`` of its ancestors."""
    found: dict[str, inspect.Parameter] = {}
    unavailable = set(FUNCTIONS)
    for ancestor in cls.__mro__:
        init = vars(ancestor).get("__init__")
        if init is None:
            continue
        parameters = list(inspect.signature(init).parameters.values())[1:]
        for p in parameters:
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in unavailable | set(found):
                found[p.name] = p.replace(kind=p.KEYWORD_ONLY)
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
        unavailable |= _decided(init) - set(found) - set(FACTS)
    return found


def _decided(init: Any) -> set[str]:
    """Return what a constructor passes on by keyword to the next one, which nobody else can set then."""
    nodes = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(init))))
    calls = [(node, node.func) for node in nodes if isinstance(node, ast.Call)]
    inits = [call for call, called in calls if isinstance(called, ast.Attribute) and called.attr == "__init__"]
    return {word.arg for call in inits for word in call.keywords if word.arg}


def _with_signature(
    build: Callable[..., Any], parameters: Mapping[str, inspect.Parameter], doc: str
) -> Callable[..., Any]:
    """Give ``build`` the signature that a registry reads: the task, then the library's arguments with their types."""
    options = [p.replace(annotation=_type_of(p)) for name, p in parameters.items() if name not in FACTS]
    required_first = sorted(options, key=lambda p: p.default is not p.empty)
    task = inspect.Parameter("task", inspect.Parameter.POSITIONAL_ONLY, annotation=Task)
    described: Any = build
    described.__signature__ = inspect.Signature([task, *required_first])
    described.__annotations__ = {p.name: p.annotation for p in required_first}
    described.__doc__ = doc
    return build


def _type_of(parameter: inspect.Parameter) -> Any:
    """Return what an argument may be: a part, or what its annotation says, else the type of its default."""
    name, default = parameter.name, parameter.default
    if name in PARTS:
        kind = _choice_of(PARTS[name])
    elif name in LISTS:
        kind = list[_choice_of(LISTS[name])]  # type: ignore[misc]
    elif parameter.annotation is not parameter.empty:
        kind = Finite if parameter.annotation is float else parameter.annotation
    elif isinstance(default, bool | str):
        kind = type(default)
    else:
        kind = NUMBER if isinstance(default, int | float) else Any
    return kind | None if default is None and kind is not Any else kind


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


# A default of 80 in the library does not mean that 12.5 is wrong, but that 10 must not become 10.0 where it counts.
NUMBER = Annotated[Any, AfterValidator(_number), WithJsonSchema({"type": "number"})]


def _choice_of(kind: str) -> Any:
    """Return the type of a choice among the classes of one of the library's modules: checked, defaults left out."""

    def check(choice: Any) -> dict[str, Any]:
        choice = {"name": choice} if isinstance(choice, str) else choice
        if not isinstance(choice, dict) or not isinstance(choice.get("name"), str):
            raise OptionError([Problem((), f"must be the name of one of the library's {kind}, or {{name: ...}}")])
        entry = _part_entry(kind, choice["name"])
        checked = entry.check({key: value for key, value in choice.items() if key != "name"})
        return {"name": entry.name, **{o.name: checked[o.name] for o in entry.options if checked[o.name] != o.default}}

    return Annotated[
        dict[str, Any], BeforeValidator(check), WithJsonSchema({"description": f"one of the library's {kind}"})
    ]


@cache
def _part_entry(kind: str, name: str) -> Entry[nn.Module]:
    cls = _class(kind, name)

    def build(task: Task, **options: Any) -> nn.Module:
        return _make(cls, task, options)

    return Entry(name, _with_signature(build, _parameters(cls), f"Use {name} of pytorch-metric-learning."))


def _part(task: Task, kind: str, choice: Mapping[str, Any] | None) -> nn.Module | None:
    if choice is None:
        return None
    return _part_entry(kind, choice["name"]).build(task, **{k: v for k, v in choice.items() if k != "name"})


def _make(cls: type[nn.Module], task: Task, options: Mapping[str, Any]) -> nn.Module:
    """Call a constructor of the library with the facts it requires and the parts it is to have."""
    arguments: dict[str, Any] = {name: FACTS[name](task) for name in _parameters(cls) if name in FACTS}
    for name, value in options.items():
        if name in PARTS:
            arguments[name] = _part(task, PARTS[name], value)
        elif name in LISTS and value is not None:
            arguments[name] = [_part(task, LISTS[name], choice) for choice in value]
        else:
            arguments[name] = value
    return cls(**arguments)


def _try(build: Callable[..., Loss], options: Mapping[str, Any]) -> None:
    """Build a small loss, so that what the library refuses is known when a recipe is checked."""
    try:
        with torch.random.fork_rng(devices=[]):
            build(Task(num_classes=2, embedding_dim=2), **options)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise OptionError([Problem((), f"pytorch-metric-learning refuses these options: {reason}")]) from None


def _doc(name: str) -> str:
    used = f"pytorch-metric-learning {version('pytorch-metric-learning')}"
    return (
        f"Use {name} of {used} with the arguments of its constructor.\n\n"
        "Its parameters are trained at the rate of centers; numbers of classes and dimensions are supplied.\n"
        "miner, distance, reducer and regularizers are choices: {name: CosineSimilarity}.\n\n"
        f"Source: {used}.\n"
        f"Differs: {DIFFERS.get(name, 'no deviation is known.')}"
    )


LOSSES.register_family(Family(PREFIX, "Use any loss class of pytorch-metric-learning, such as pml.CircleLoss.", find))
