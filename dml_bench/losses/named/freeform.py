"""The proxy loss with every slot open to the recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator

from dml_bench.losses.centers import POOLINGS, single
from dml_bench.losses.ensemble import ENSEMBLES
from dml_bench.losses.loss import LOSSES, Task
from dml_bench.losses.margins import MARGINS
from dml_bench.losses.named.softmax import linear_bias
from dml_bench.losses.negatives import NEGATIVES
from dml_bench.losses.objectives import OBJECTIVES
from dml_bench.losses.proxy import ProxyLoss
from dml_bench.losses.regularizers import REGULARIZERS
from dml_bench.losses.sampled import SampledProxyLoss
from dml_bench.losses.sense import check_combination
from dml_bench.losses.similarity import SIMILARITIES
from dml_bench.losses.weighting import WEIGHTINGS
from dml_bench.registry import Count, Positive

OneOrMore = BeforeValidator(lambda value: [value] if isinstance(value, str | Mapping) else value)
"""A list, whose brackets may be left out around one item."""


def _parts(options: dict[str, Any]) -> dict[str, Any]:
    """Build the parts that do not depend on the training set, and fill in the number of centers."""
    pooling = POOLINGS.assemble(options["centers"], None)
    return {
        "similarity": SIMILARITIES.assemble(options["similarity"], None),
        "centers_per_class": options["centers_per_class"] or (1 if pooling is single else 10),
        "pooling": pooling,
        "margin": MARGINS.assemble(options["margin"], None),
        "negatives": NEGATIVES.assemble(options["negatives"], None),
        "objective": OBJECTIVES.assemble(options["objective"], None),
        "regularizers": [REGULARIZERS.assemble(choice, None) for choice in options["regularizer"]],
        "members": options["members"],
        "ensemble": ENSEMBLES.assemble(options["ensemble"], None),
    }


def _refuse(**options: Any) -> None:
    sampled = options["sampled_classes"] is not None
    check_combination(**_parts(options), bias=options["bias"], num_classes=None, sampled=sampled)


@LOSSES.register("proxy", refuse=_refuse)
def proxy(
    task: Task,
    /,
    *,
    similarity: Annotated[Any, SIMILARITIES] = "cosine",
    centers: Annotated[Any, POOLINGS] = "single",
    centers_per_class: Count | None = None,
    margin: Annotated[Any, MARGINS] = "none",
    negatives: Annotated[Any, NEGATIVES] = "none",
    scale: Positive = 1.0,
    learn_scale: bool = False,
    bias: bool = False,
    objective: Annotated[Any, OBJECTIVES] = "softmax",
    weighting: Annotated[Sequence[Annotated[Any, WEIGHTINGS]], OneOrMore] = (),
    regularizer: Annotated[Sequence[Annotated[Any, REGULARIZERS]], OneOrMore] = (),
    members: Count = 1,
    ensemble: Annotated[Any, ENSEMBLES] = "sum",
    sampled_classes: Count | None = None,
) -> ProxyLoss:
    """Compose a loss of the parts of the published ones.

    similarity of embedding and centers -> centers: pooling of a class's centers_per_class (null: 1 for single, else 10)
    -> margin on the own class -> negatives -> scale -> + bias -> objective -> weighting, left to right -> mean -> sum
    over the members of an ensemble -> + regularizer.
    A part is written as its name, as {name: {option: value}}, or as {name: value of its first option}:
    ``{name: proxy, centers: {soft: 0.1}, margin: {additive: 0.01}, regularizer: [{merge_centers: 0.2}], scale: 20}``
    is softtriple. Parts that do not make sense together are refused with the reason.
    sampled_classes=M is for class counts of a million: each step compares with the classes of the batch and M of the
    others, drawn evenly. The sum over classes in the softmax is right on average, its logarithm, and so the loss, a
    little too low. The trainer then steps only the centers in use.

    Source: the loss family of this suite; parts name their own sources.
    Differs: nothing.
    """
    options = {
        "similarity": similarity,
        "centers": centers,
        "centers_per_class": centers_per_class,
        "margin": margin,
        "negatives": negatives,
        "objective": objective,
        "regularizer": regularizer,
        "members": members,
        "ensemble": ensemble,
    }
    sampled = None if sampled_classes is None else partial(SampledProxyLoss, sampled_classes=sampled_classes)
    return (sampled or ProxyLoss)(
        task,
        **_parts(options),
        scale=scale,
        learn_scale=learn_scale,
        bias=linear_bias(task, bias),
        weighting=[WEIGHTINGS.assemble(choice, task) for choice in weighting],
    )
