"""What a network is worth: on the test part, or on held-out classes while it is trained."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy.typing as npt
import torch

from dml_bench import ranks
from dml_bench.data.dataset import Split
from dml_bench.evaluation.evaluate import Scores, evaluate
from dml_bench.evaluation.extract import extract
from dml_bench.evaluation.items import PairList
from dml_bench.evaluation.metrics import PairMetric, parse_metric
from dml_bench.losses import Loss
from dml_bench.models.embedder import Embedder
from dml_bench.randomness import derive_seed
from dml_bench.recipe.schema import Evaluation, Recipe, Training
from dml_bench.results.journal import Journal
from dml_bench.splits import selection_of
from dml_bench.training.fit import EpochResult
from dml_bench.training.precision import arithmetic
from dml_bench.training.selection import Keeper


def score(
    embeddings: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    evaluation: Evaluation,
    seed: int,
    **how: Any,
) -> Scores:
    """Score a run's embeddings as its recipe says; from the same ones, the same numbers as when it was run.

    Args:
        embeddings: ``(N, D)``.
        labels: ``(N,)`` integers; which number a class has makes no difference.
        evaluation: the metrics, restarts and distance.
        seed: the seed of the run, from which those of k-means are derived.
        how: what ``evaluate`` takes besides: the masks and pairs of the data, and what changes no number.
    """
    restarts, draws = evaluation.restarts, derive_seed(seed, "k-means") % 2**31
    names, distance = evaluation.metrics, evaluation.distance
    return evaluate(embeddings, labels, names, distance=distance, restarts=restarts, seed=draws, **how)


def sides(split: Split) -> dict[str, Any]:
    """Return which test items ask and which are searched, where they are not all."""
    return {} if split.query is None else {"query": split.query, "gallery": split.gallery}


def pairs(split: Split, *metrics: str) -> PairList | None:
    """Return the pairs of the data, if a metric compares pairs."""
    if split.pairs is None or not any(isinstance(parse_metric(name), PairMetric) for name in metrics):
        return None
    return PairList(split.pairs.first, split.pairs.second, split.pairs.same, split.pairs.folds)


def keeper_of(recipe: Recipe, split: Split, model: Embedder, loss: Loss, device: torch.device) -> Keeper | None:
    """Return what selects a network as the recipe says; None if it is the last one."""
    selection = selection_of(recipe)
    if selection.metric is None:
        return None
    part, masks = (split.test, sides(split)) if split.validation is None else (split.validation, {})
    how = recipe.evaluation.model_copy(update={"metrics": [selection.metric], "restarts": 1})
    compared = pairs(split, selection.metric) if split.validation is None else None

    def measure() -> float:
        with arithmetic(recipe.training or Training()):
            embeddings = extract(model, part.images, device=device)
        how_else = {**masks, "pairs": compared, "device": device}
        values = partial(score, embeddings, part.labels, how, recipe.seed, **how_else)
        return float(ranks.agreed(lambda: values()[how.metrics[0]]))

    return Keeper(selection, (model, loss), measure)


def after_epoch(journal: Journal, keeper: Keeper | None, head_epochs: int, result: EpochResult) -> bool:
    """Note a finished epoch and what it is worth; return whether training should end."""
    journal.epoch(result)
    if keeper is None or result.epoch <= head_epochs:
        return False
    value = keeper.after(result.epoch)
    if value is not None:
        journal.validated(result.epoch, str(keeper.selection.metric), value)
    return keeper.is_out_of_patience


def select_network(journal: Journal, keeper: Keeper | None) -> None:
    """Restore the network that was selected, and note which it is."""
    if keeper is None:
        return
    value = keeper.finish()
    if value is not None:
        journal.validated(keeper.epoch, str(keeper.selection.metric), value)
    journal.selected = {"epoch": keeper.best_epoch, "metric": keeper.selection.metric, "value": keeper.best}
