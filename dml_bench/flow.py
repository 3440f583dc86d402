"""The whole flow of one run on one page: data, network, loss, training, evaluation, record."""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits
from torch import nn

from dml_bench.data.dataset import DATASETS, Split
from dml_bench.data.folds import hold_out
from dml_bench.data.samplers import SAMPLERS
from dml_bench.data.subsets import SUBSETS, with_subsets
from dml_bench.evaluation.evaluate import Scores, evaluate
from dml_bench.evaluation.extract import extract
from dml_bench.evaluation.items import PairList
from dml_bench.evaluation.metrics import PairMetric, parse_metric
from dml_bench.losses import LOSSES, Loss
from dml_bench.losses import build as build_loss
from dml_bench.losses.merging import centers_left
from dml_bench.models.backbone import BACKBONES
from dml_bench.models.embedder import Embedder, build_embedder
from dml_bench.randomness import derive_seed
from dml_bench.recipe.check import Run, Vocabulary
from dml_bench.recipe.reader import write_recipe
from dml_bench.recipe.schema import Evaluation, Recipe, Training
from dml_bench.recipe.weights import located
from dml_bench.results.journal import Journal, Tell
from dml_bench.results.record import RunRecord
from dml_bench.results.store import publishing
from dml_bench.training.fit import EpochResult, fit
from dml_bench.training.optimizers import OPTIMIZERS
from dml_bench.training.precision import arithmetic
from dml_bench.training.schedules import SCHEDULES
from dml_bench.training.selection import SELECTIONS, Keeper, Selection

REGISTRIES = {
    registry.kind: registry
    for registry in (LOSSES, DATASETS, BACKBONES, SAMPLERS, SUBSETS, OPTIMIZERS, SCHEDULES, SELECTIONS)
}
VOCABULARY = Vocabulary(REGISTRIES, parse_metric)
"""Every name a recipe may use."""


def execute(
    run: Run,
    folder: Path,
    *,
    device: str = "cpu",
    tell: Tell = lambda event: None,
    load: Callable[[Recipe], Split] | None = None,
) -> RunRecord:
    """Do one run and publish it as ``folder/<run id>``; a run that fails is published with its reason.

    Args:
        run: a checked run.
        folder: where its folder goes.
        device: a torch device, such as ``cpu`` or ``cuda:0``.
        tell: receives progress events.
        load: gives the data of a recipe; by default ``load_split``.
    """
    journal = Journal(run, _device_name(device), tell)
    count = run.recipe.training.threads if run.recipe.training else 1
    with publishing(folder, run.run_id) as work:
        try:
            with threads(count):
                scores = _flow(run.recipe, torch.device(device), journal, work, load or load_split)
            record = journal.record("ok", scores)
        except Exception as error:
            journal.lines.append(traceback.format_exc())
            record = journal.record("failed", {}, f"{type(error).__name__}: {error}")
        record.write(work)
        (work / "recipe.yaml").write_text(write_recipe(run.recipe), encoding="utf-8")
        (work / "log.txt").write_text("\n".join([*journal.lines, ""]), encoding="utf-8")
    return record


def _flow(
    recipe: Recipe, device: torch.device, journal: Journal, work: Path, load: Callable[[Recipe], Split]
) -> Scores:
    with journal.phase("data"):
        split = load(recipe)
        journal.data = describe(split)
    model, loss = assemble(recipe, split)
    model.to(device)
    journal.costs = {"parameters": _size(model), "loss_parameters": _size(loss) if loss else 0}
    journal.embedding_dim = model.embedding_dim
    journal.weights = model.weights_digest
    if loss and recipe.training:
        keeper = keeper_of(recipe, split, model, loss, device)
        with journal.phase("train"):
            fit(
                model,
                loss.to(device),
                split.train,
                recipe.training,
                seed=recipe.seed,
                device=device,
                on_start=journal.note,
                on_step=journal.step,
                on_epoch=partial(_after_epoch, journal, keeper, recipe.training.head_epochs),
                validation=keeper.latest if keeper and split.validation else None,
            )
            _select(journal, keeper)
            journal.centers_left = _centers_left(loss)
    with journal.phase("evaluate"):
        with arithmetic(recipe.training or Training()):
            embeddings = extract(model, split.test.images, device=device)
        masks = _sides(split)
        np.savez(work / "embeddings.npz", embeddings=embeddings, labels=split.test.labels, **masks)
        how = {**masks, "pairs": _pairs(split, *recipe.evaluation.metrics), "device": device}
        scores = score(embeddings, split.test.labels, recipe.evaluation, recipe.seed, **how)
    if scores.per_query:
        per_query: dict[str, Any] = {name: _small(part) for name, part in scores.per_query.items()}
        np.savez_compressed(work / "per_query.npz", **per_query)
    journal.data |= {"queries": scores.queries, "singletons": scores.singletons}
    journal.costs["peak_memory"] = _peak_memory(device)
    return scores


def keeper_of(recipe: Recipe, split: Split, model: Embedder, loss: Loss, device: torch.device) -> Keeper | None:
    """Return what selects a network as the recipe says; None if it is the last one."""
    selection = selection_of(recipe)
    if selection.metric is None:
        return None
    part, sides = (split.test, _sides(split)) if split.validation is None else (split.validation, {})
    how = recipe.evaluation.model_copy(update={"metrics": [selection.metric], "restarts": 1})
    pairs = _pairs(split, selection.metric) if split.validation is None else None

    def measure() -> float:
        with arithmetic(recipe.training or Training()):
            embeddings = extract(model, part.images, device=device)
        return score(embeddings, part.labels, how, recipe.seed, **sides, pairs=pairs, device=device)[how.metrics[0]]

    return Keeper(selection, (model, loss), measure)


def selection_of(recipe: Recipe) -> Selection:
    """Return the recipe's rule of model selection."""
    return SELECTIONS.build(**recipe.selection)


def _after_epoch(journal: Journal, keeper: Keeper | None, head_epochs: int, result: EpochResult) -> bool:
    """Note a finished epoch and what it is worth; return whether training should end."""
    journal.epoch(result)
    if keeper is None or result.epoch <= head_epochs:
        return False
    value = keeper.after(result.epoch)
    if value is not None:
        journal.validated(result.epoch, str(keeper.selection.metric), value)
    return keeper.is_out_of_patience


def _select(journal: Journal, keeper: Keeper | None) -> None:
    """Restore the network that was selected, and note which it is."""
    if keeper is None:
        return
    value = keeper.finish()
    if value is not None:
        journal.validated(keeper.epoch, str(keeper.selection.metric), value)
    journal.selected = {"epoch": keeper.best_epoch, "metric": keeper.selection.metric, "value": keeper.best}


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


def _sides(split: Split) -> dict[str, Any]:
    return {} if split.query is None else {"query": split.query, "gallery": split.gallery}


def _pairs(split: Split, *metrics: str) -> PairList | None:
    """Return the pairs of the data, if a metric compares pairs."""
    if split.pairs is None or not any(isinstance(parse_metric(name), PairMetric) for name in metrics):
        return None
    return PairList(split.pairs.first, split.pairs.second, split.pairs.same, split.pairs.folds)


def load_split(recipe: Recipe) -> Split:
    """Load the data of a recipe from its ``data_root``, else from ``$DML_BENCH_DATA``; the last one stays loaded."""
    selection = selection_of(recipe)
    choice = json.dumps([recipe.dataset, recipe.subset, selection.folds, selection.fold])
    return _load(choice, recipe.data_root or os.environ.get("DML_BENCH_DATA"))


@lru_cache(maxsize=1)
def _load(choice: str, root: str | None) -> Split:
    options, subset, folds, fold = json.loads(choice)
    split = DATASETS.build(options.pop("name"), Path(root) if root else None, **options)
    whole = replace(split, train=with_subsets(split, subset)) if subset else split
    if folds is None:
        return whole
    held = hold_out(split, folds, fold)
    return replace(held, train=with_subsets(held, subset) if subset else held.train, known_digest=whole.digest)


def describe(split: Split) -> dict[str, object]:
    """Return what a record keeps of its data: digest, image shape and sizes."""
    parts = {"train": split.train, "test": split.test}
    parts |= {} if split.validation is None else {"validation": split.validation}
    sizes = {name: {"images": len(part), "classes": part.num_classes} for name, part in parts.items()}
    return {"digest": split.digest, "image_shape": list(split.train.image_shape), **sizes}


def assemble(recipe: Recipe, split: Split) -> tuple[Embedder, Loss | None]:
    """Build the network and the loss of a recipe, with weights drawn from its seed."""
    train = split.train
    backbone = located(recipe.backbone, recipe.data_root)
    model = build_embedder(backbone, recipe.embedding, train.image_shape, train.moments, recipe.seed, recipe.normalize)
    if recipe.loss is None:
        return model, None
    options = dict(recipe.loss)
    name, counts = options.pop("name"), torch.from_numpy(train.class_counts)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(recipe.seed, "loss"))
        return model, build_loss(name, train.num_classes, model.embedding_dim, class_counts=counts, **options)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _small(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values.astype(np.float32) if values.dtype == np.float64 else values


def _peak_memory(device: torch.device) -> int:
    """Return the greatest memory in use so far, in bytes: of the GPU, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _centers_left(loss: nn.Module) -> tuple[int, ...]:
    centers = getattr(loss, "centers", None)
    if not isinstance(centers, torch.Tensor) or centers.ndim != 3 or centers.shape[1] == 1:
        return ()
    return tuple(centers_left(centers.detach()).tolist())


def _device_name(device: str) -> str:
    return f"{device}: {torch.cuda.get_device_name(device)}" if device.startswith("cuda") else device


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Give torch, faiss and the numeric libraries ``count`` threads, and put things back afterwards."""
    before = torch.get_num_threads()
    with threadpool_limits(count):
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)
