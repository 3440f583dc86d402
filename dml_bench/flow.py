"""The whole flow of one run on one page: data, network, loss, training, evaluation, record."""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
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

from dml_bench import ranks
from dml_bench.data.dataset import DATASETS, Split
from dml_bench.data.folds import hold_out
from dml_bench.data.samplers import SAMPLERS
from dml_bench.data.subsets import SUBSETS, with_subsets
from dml_bench.errors import DataError, DiskFullError, RunTaken
from dml_bench.evaluation.evaluate import Scores, evaluate
from dml_bench.evaluation.extract import extract
from dml_bench.evaluation.items import PairList
from dml_bench.evaluation.metrics import PairMetric, parse_metric
from dml_bench.losses import LOSSES, Loss
from dml_bench.losses.merging import centers_left
from dml_bench.losses.still import centers_of, still_centers
from dml_bench.models.backbone import BACKBONES
from dml_bench.models.embedder import Embedder
from dml_bench.randomness import derive_seed
from dml_bench.ranks import RankError
from dml_bench.recipe.check import Run, Vocabulary
from dml_bench.recipe.reader import write_recipe
from dml_bench.recipe.schema import Evaluation, Recipe, Training
from dml_bench.results.attempts import begin_attempt, end_attempts
from dml_bench.results.journal import Journal, Tell
from dml_bench.results.lease import Lease
from dml_bench.results.live import Live, both
from dml_bench.results.outcome import naming_full_disk, reason_of
from dml_bench.results.record import RunRecord
from dml_bench.results.store import mend, publishing, stamp
from dml_bench.training import assembly
from dml_bench.training.checkpoint import Checkpoints, Stateful
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

Saving = Callable[[str, Mapping[str, Stateful]], Checkpoints]
"""From the digest of the data and what else has to be saved to the run's checkpoints."""

Loading = Callable[[Recipe], Split]


def execute(
    run: Run,
    folder: Path,
    *,
    device: str = "cpu",
    tell: Tell = lambda event: None,
    checkpoint_every: int | None = None,
    on_checkpoint: Callable[[Path], None] = lambda path: None,
    replaces: int | None = None,
    load: Loading | None = None,
) -> RunRecord:
    """Do one run and publish it as ``folder/<run id>``; a run that fails is published with its reason.

    What an earlier attempt left in the run's hidden folder is gone on with, to the same digit on a CPU.

    Args:
        run: a checked run.
        folder: where its folder goes.
        device: a torch device, such as ``cpu`` or ``cuda:0``.
        tell: receives progress events.
        checkpoint_every: optimizer steps between checkpoints; None for as often as takes about 2 percent of the time.
        on_checkpoint: is told of each checkpoint, a file in the hidden folder.
        replaces: the ``store.stamp`` of what may be replaced; if something else is published there by now, somebody
            else has done the run, and that record is returned. None replaces whatever there is.
        load: gives the data of a recipe; by default ``load_split``.

    Raises:
        RunTaken: if somebody alive is doing the run, or took it over from this process.
        ResultsError: if nothing can be written; ``DiskFullError`` if that is the reason.
    """
    with naming_full_disk(folder), Lease(folder, run.run_id) as lease:
        mend(folder, run.run_id)
        if replaces is not None and stamp(folder, run.run_id) != replaces:
            return RunRecord.read(folder / run.run_id / "record.json")
        return _attempt(run, folder, lease, device, tell, (checkpoint_every, on_checkpoint), load or load_split)


def _attempt(
    run: Run,
    folder: Path,
    lease: Lease,
    device: str,
    tell: Tell,
    checkpointing: tuple[int | None, Callable[[Path], None]],
    load: Loading,
) -> RunRecord:
    training = run.recipe.training
    with publishing(folder, run.run_id, lease) as work:
        attempts = begin_attempt(work)
        live = Live(work, training.epochs if training else None)
        journal = Journal(run, _device_name(device), both(lease.keep, live.hear, tell))
        journal.attempts = attempts

        def save(data: str, parts: Mapping[str, Stateful]) -> Checkpoints:
            every, on_saved = checkpointing
            owner, told = {"run": run.run_id, "data": data}, (journal.warn, on_saved, journal.resumed)
            return Checkpoints(work, owner, every, parts, *told)

        try:
            with threads(training.threads if training else 1), naming_full_disk(folder):
                scores = _flow(run.recipe, torch.device(device), journal, work, save, load)
            record = journal.record("ok", scores)
        except (DiskFullError, RunTaken, RankError):
            raise
        except Exception as error:
            lease.confirm()
            journal.lines.append(traceback.format_exc())
            record = journal.record("failed", {}, reason_of(error))
        live.end()
        record.write(work)
        (work / "recipe.yaml").write_text(write_recipe(run.recipe), encoding="utf-8")
        (work / "log.txt").write_text("\n".join([*journal.lines, ""]), encoding="utf-8")
    end_attempts(folder / run.run_id)  # not before: a kill while publishing must not cost the training
    return record


def _flow(recipe: Recipe, device: torch.device, journal: Journal, work: Path, save: Saving, load: Loading) -> Scores:
    journal.ranks = ranks.count()
    with journal.phase("data"):
        split = _load_together(recipe, load)
        journal.data = describe(split)
    model, loss = assemble(recipe, split)
    model.to(device)
    journal.costs = {"parameters": _size(model), "loss_parameters": _size(loss) if loss else 0}
    journal.embedding_dim = model.embedding_dim
    journal.weights = model.weights_digest
    if loss and recipe.training:
        start = centers_of(loss)
        keeper = keeper_of(recipe, split, model, loss, device)
        parts: dict[str, Stateful] = {"journal": journal, **({"keeper": keeper} if keeper else {})}
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
                checkpoints=save(split.digest, parts),
            )
            _select(journal, keeper)
            journal.checks |= still_centers(start, loss)
            journal.centers_left = _centers_left(loss)
    if ranks.here() == 0:
        assembly.save_weights(work, recipe, assembly.TrainFacts.of(split.train), model, loss)
    with journal.phase("evaluate"):
        with arithmetic(recipe.training or Training()):
            embeddings = extract(model, split.test.images, device=device)
        if ranks.here():
            return Scores({}, 0, 0)  # rank 0 measures and writes
        masks = _sides(split)
        np.savez(work / "embeddings.npz", embeddings=embeddings, labels=split.test.labels, **masks)
        how = {**masks, "pairs": _pairs(split, *recipe.evaluation.metrics), "device": device}
        scores = score(embeddings, split.test.labels, recipe.evaluation, recipe.seed, **how)
    if scores.per_query:
        per_query: dict[str, Any] = {name: _small(part) for name, part in scores.per_query.items()}
        np.savez_compressed(work / "per_query.npz", **per_query)
    journal.data |= {"queries": scores.queries, "singletons": scores.singletons}
    journal.checks["kmeans_unconverged"] = scores.unconverged
    journal.costs["peak_memory"] = _peak_memory(device)
    return scores


def validate(recipe: Recipe, *, device: str = "cpu", split: Split | None = None) -> float:
    """Train as a recipe with held-out classes says, and return the best value of its metric on these.

    The test part of the data is never read, and nothing is written.

    Args:
        recipe: its selection holds training classes out.
        device: a torch device.
        split: the data, if not those of the recipe.

    Raises:
        TrainingError: if training diverges.
    """
    where, count = torch.device(device), recipe.training.threads if recipe.training else 1
    split = split or load_split(recipe)
    with threads(count):
        model, loss = assemble(recipe, split)
        model.to(where)
        if loss is None or recipe.training is None or split.validation is None:
            raise ValueError("only a loss that is trained beside held-out classes can be validated")
        keeper = keeper_of(recipe, split, model, loss, where)
        if keeper is None:
            raise ValueError("only a recipe that selects by held-out classes can be validated")
        journal = Journal(Run(recipe), device, lambda event: None)
        fit(
            model,
            loss.to(where),
            split.train,
            recipe.training,
            seed=recipe.seed,
            device=where,
            on_epoch=partial(_after_epoch, journal, keeper, recipe.training.head_epochs),
            validation=keeper.latest,
        )
        keeper.finish()
    return keeper.best


def assist(run: Run, folder: Path, *, device: str) -> None:
    """Do the part of a run that falls to a rank other than 0, which executes it at the same time.

    Raises:
        DmlBenchError: what makes rank 0's run fail as well, or ``RankError``.
    """
    journal = Journal(run, _device_name(device), lambda event: None)
    with threads(run.recipe.training.threads if run.recipe.training else 1):
        work = folder / f".work-{run.run_id}"

        def follow(data: str, parts: Mapping[str, Stateful]) -> Checkpoints:
            return Checkpoints(work, {"run": run.run_id, "data": data}, parts=parts, writes=False)

        _flow(run.recipe, torch.device(device), journal, work, follow, load_split)


def _load_together(recipe: Recipe, load: Loading) -> Split:
    """Load the data: on rank 0 first, which may fill the cache; the others must find the same."""
    digest = ranks.agreed(lambda: load(recipe).digest)
    split = load(recipe)
    if split.digest != digest:
        raise DataError(f"{recipe.dataset['name']}: the data of rank {ranks.here()} is not that of rank 0")
    return split


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
        how_else = {**sides, "pairs": pairs, "device": device}
        values = partial(score, embeddings, part.labels, how, recipe.seed, **how_else)
        return float(ranks.agreed(lambda: values()[how.metrics[0]]))

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
    return assembly.assemble(recipe, assembly.TrainFacts.of(split.train))


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
