"""The whole flow of one run on one page: data, network, loss, training, evaluation, record."""

from __future__ import annotations

import resource
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits
from torch import nn

from dml_bench import ranks
from dml_bench.data.dataset import DATASETS, Split
from dml_bench.data.samplers import SAMPLERS
from dml_bench.data.subsets import SUBSETS
from dml_bench.errors import DataError, DiskFullError, RunTaken
from dml_bench.evaluation.evaluate import Scores
from dml_bench.evaluation.extract import extract
from dml_bench.evaluation.metrics import parse_metric
from dml_bench.losses import LOSSES, Loss
from dml_bench.losses.merging import centers_left
from dml_bench.losses.still import centers_of, still_centers
from dml_bench.measuring import after_epoch, keeper_of, pairs, score, select_network, sides
from dml_bench.models.backbone import BACKBONES
from dml_bench.models.embedder import Embedder
from dml_bench.ranks import RankError
from dml_bench.recipe.check import Run, Vocabulary
from dml_bench.recipe.reader import write_recipe
from dml_bench.recipe.schema import Recipe, Training
from dml_bench.results.attempts import begin_attempt, end_attempts
from dml_bench.results.journal import Journal, Tell
from dml_bench.results.lease import Lease
from dml_bench.results.live import Live, both
from dml_bench.results.outcome import naming_full_disk, reason_of
from dml_bench.results.record import RunRecord
from dml_bench.results.store import mend, publishing, stamp
from dml_bench.splits import describe, load_split
from dml_bench.training import assembly
from dml_bench.training.checkpoint import Checkpoints, Stateful
from dml_bench.training.fit import fit
from dml_bench.training.optimizers import OPTIMIZERS
from dml_bench.training.precision import arithmetic
from dml_bench.training.schedules import SCHEDULES
from dml_bench.training.selection import SELECTIONS

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
    if loss:
        start = centers_of(loss)
        with journal.phase("train"):
            _train(recipe, split, model, loss, device, journal, save)
            journal.checks |= still_centers(start, loss)
            journal.centers_left = _centers_left(loss)
    if ranks.here() == 0:
        assembly.save_weights(work, recipe, assembly.TrainFacts.of(split.train), model, loss)
    with journal.phase("evaluate"):
        with arithmetic(recipe.training or Training()):
            embeddings = extract(model, split.test.images, device=device)
        if ranks.here():
            return Scores({}, 0, 0)  # rank 0 measures and writes
        masks = sides(split)
        names = np.array(split.test.class_names)
        np.savez(work / "embeddings.npz", embeddings=embeddings, labels=split.test.labels, class_names=names, **masks)
        how = {**masks, "pairs": pairs(split, *recipe.evaluation.metrics), "device": device}
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

    Nothing is measured on the test part of the data, and nothing is written.

    Args:
        recipe: its selection holds training classes out.
        device: a torch device.
        split: the data, if not those of the recipe.

    Raises:
        TrainingError: if training diverges.
    """
    split = split or load_split(recipe)
    with threads(recipe.training.threads if recipe.training else 1):
        model, loss = assemble(recipe, split)
        model.to(device)
        if loss is None or split.validation is None:
            raise ValueError("only a loss that is trained beside held-out classes can be validated")
        journal = Journal(Run(recipe), device, lambda event: None)
        _train(recipe, split, model, loss, torch.device(device), journal)
    return float(journal.selected["value"])


def _train(
    recipe: Recipe,
    split: Split,
    model: Embedder,
    loss: Loss,
    device: torch.device,
    journal: Journal,
    save: Saving | None = None,
) -> None:
    """Train network and loss in place, and leave in them what is selected."""
    training = recipe.training or Training()
    keeper = keeper_of(recipe, split, model, loss, device)
    parts: dict[str, Stateful] = {"journal": journal, **({"keeper": keeper} if keeper else {})}
    fit(
        model,
        loss.to(device),
        split.train,
        training,
        seed=recipe.seed,
        device=device,
        on_start=journal.note,
        on_step=journal.step,
        on_epoch=partial(after_epoch, journal, keeper, training.head_epochs),
        validation=keeper.latest if keeper and split.validation else None,
        checkpoints=save(split.digest, parts) if save else None,
    )
    select_network(journal, keeper)


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
