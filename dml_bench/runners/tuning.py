"""Search the settings of each loss on classes held out of training, with one budget for all; no test class is read."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dml_bench.data.dataset import ImageSet, Split
from dml_bench.data.locks import lock
from dml_bench.errors import OptionError, RecipeError, ResultsError, TrainingError
from dml_bench.flow import VOCABULARY, validate
from dml_bench.randomness import derive_seed
from dml_bench.recipe.check import Run
from dml_bench.recipe.reader import Source, read_studies, write_document
from dml_bench.recipe.space import Study
from dml_bench.runners.plan import rehearse
from dml_bench.runners.studies import Rule, Trial, finished, need_optuna, open_study, suggest, trials_csv
from dml_bench.splits import load_split
from dml_bench.training.checkpoint import write_whole

STUDY = "study.db"
TRIALS = "trials.csv"


@dataclass(frozen=True)
class Tuning:
    """What is to be searched, on what data, and where the studies are kept."""

    studies: tuple[Study, ...]
    rule: Rule
    trials: int
    folder: Path
    device: str
    split_digest: str


def prepare(
    source: Source,
    trials: int,
    *,
    out: Path | None = None,
    changes: Sequence[str] = (),
    metric: str | None = None,
    folds: int | None = None,
    device: str = "cpu",
) -> Tuning:
    """Read a recipe with a ``space`` and check that it can be searched.

    Args:
        source: a recipe file, or an equal mapping.
        trials: settings tried for each loss.
        out: the folder of the studies; by default ``tuning/<recipe name>``.
        changes: ``"path=value"`` settings that overrule the recipe.
        metric: what is measured on held-out classes; by default what the recipe selects by, else map@r.
        folds: how many of the parts are held out in turn; by default all.
        device: where to train.

    Raises:
        RecipeError: if the recipe is wrong, has no space, selects on the test classes, or does not fit the data.
        DmlBenchError: if optuna is not there.
    """
    need_optuna()
    studies = read_studies(source, VOCABULARY, changes)
    first = studies[0].run({}, VOCABULARY).recipe
    if first.selection["name"] not in ("last", "validation"):
        raise RecipeError(f"selection: must be last or validation to be tuned, not {first.selection['name']}")
    chosen = metric or first.selection.get("metric") or "map@r"
    parts = first.selection.get("folds", 4)
    if folds is not None and not 1 <= folds <= parts:
        raise RecipeError(f"--folds {folds}: must be from 1 to {parts}, the parts of the training classes")
    rule = Rule(chosen, parts, folds or parts)
    split = load_split(_held_out(studies[0], {}, rule, 1).recipe)
    for study in studies:
        recipe = _held_out(study, {}, rule, 1).recipe
        rehearse(recipe, load_split(recipe), torch.device(device))
    folder = out or Path("tuning") / first.name
    return Tuning(tuple(studies), rule, trials, folder, device, split.digest)


def tune(tuning: Tuning, tell: Callable[[Trial], None] = lambda trial: None) -> list[Trial]:
    """Try settings until every study has its trials, go on with what is in the folder, and write the results.

    ``trials.csv`` lists all trials; ``best/<study>.yaml`` is a recipe of the best settings, which ``dml-bench run``
    repeats over seeds. A trial that was killed is tried again with the same settings.

    Args:
        tuning: what ``prepare`` returned.
        tell: hears of each trial that ends now.

    Returns:
        As many trials of each study as were asked for, earlier ones included; what a larger budget found once does not
        count in a smaller one.

    Raises:
        ResultsError: if the folder holds the study of another recipe or of other data, or cannot be written.
    """
    try:
        (tuning.folder / "best").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultsError(f"{tuning.folder}: cannot write here: {error.strerror}; choose another with --out") from None
    with lock(tuning.folder / ".tuning"):  # a second command waits, and then finds all of it done
        return _tune(tuning, tell)


def _tune(tuning: Tuning, tell: Callable[[Trial], None]) -> list[Trial]:
    found: list[Trial] = []
    for study in tuning.studies:
        for trial in _searched(tuning, study):
            tell(trial)
        done = finished(_opened(tuning, study), study)[: tuning.trials]
        found += done
        write_whole(tuning.folder / TRIALS, trials_csv(found).encode())
        if best := _best(done):
            text = _best_recipe(tuning, study, best, done)
            write_whole(tuning.folder / "best" / f"{study.name}.yaml", text.encode())
    return found


def _searched(tuning: Tuning, study: Study) -> Iterator[Trial]:
    optuna = need_optuna()
    opened = _opened(tuning, study)
    for trial in opened.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
        opened.tell(trial.number, state=optuna.trial.TrialState.FAIL)  # its process was killed; the seed repeats it
    while (count := len(finished(opened, study))) < tuning.trials:
        seed = derive_seed(study.base.values.get("seed", 0), "tuning", study.name, count) % 2**32
        opened.sampler = optuna.samplers.TPESampler(seed=seed)
        asked = opened.ask()
        params = {dimension.name: suggest(asked, dimension) for dimension in study.dimensions}
        start = time.perf_counter()
        values, reason = _judge(tuning, study, params)
        asked.set_user_attr("folds", values)
        asked.set_user_attr("seconds", round(time.perf_counter() - start, 3))
        if reason:
            asked.set_user_attr("reason", reason)
            opened.tell(asked, state=optuna.trial.TrialState.PRUNED)
        else:
            opened.tell(asked, float(np.mean(values)))
        yield finished(opened, study)[-1]


def _judge(tuning: Tuning, study: Study, params: dict[str, Any]) -> tuple[list[float], str]:
    """Return the value on each fold, or why there is none."""
    values: list[float] = []
    try:
        for fold in range(1, tuning.rule.folds + 1):
            recipe = _held_out(study, params, tuning.rule, fold).recipe
            values.append(validate(recipe, device=tuning.device, split=sealed(load_split(recipe))))
    except (TrainingError, OptionError, RuntimeError, MemoryError) as error:  # the last two: out of memory
        return values, f"{type(error).__name__}: {error}"
    return values, ""


def sealed(split: Split) -> Split:
    """Return a split whose test part raises as soon as it is looked at."""
    return replace(split, test=_Sealed(), query=None, gallery=None, pairs=None, known_digest=split.digest)


class _Sealed(ImageSet):
    """The test part of a search: there is nothing to be read."""

    def __init__(self) -> None:
        pass

    def __getattribute__(self, name: str) -> Any:
        if name in ("__class__", "__dict__"):
            return object.__getattribute__(self, name)
        raise AssertionError(f"a search must not look at the test classes, but reads their {name}")


def _held_out(study: Study, params: dict[str, Any], rule: Rule, fold: int) -> Run:
    """Return the run that is judged on one fold."""
    chosen = study.run({}, VOCABULARY).recipe.selection
    every = chosen["every"] if chosen["name"] == "validation" else 10**9  # the last epoch alone
    kept = {name: chosen[name] for name in ("patience",) if name in chosen}
    rules = {"name": "validation", "metric": rule.metric, "folds": rule.parts, "fold": fold, "every": every, **kept}
    return study.run(params, VOCABULARY, selection=rules)


def _opened(tuning: Tuning, study: Study) -> Any:
    """Return the study as it stands."""
    about = {
        "recipe": _held_out(study, {}, tuning.rule, 1).recipe_id,
        "space": [repr(dimension) for dimension in study.dimensions],
        "rule": vars(tuning.rule),
        "data": tuning.split_digest,
        "seed": study.base.values.get("seed", 0),
    }
    return open_study(tuning.folder / STUDY, study.name, about)


def _best(trials: Sequence[Trial]) -> Trial | None:
    """Return the first of the best."""
    valued = [trial for trial in trials if not math.isnan(trial.value)]
    return max(valued, key=lambda trial: trial.value) if valued else None


def _best_recipe(tuning: Tuning, study: Study, best: Trial, done: Sequence[Trial]) -> str:
    """Write the recipe of the best settings, the seeds of the search's recipe with it."""
    document = study.point(best.params).values
    document["name"] = f"{document.get('name', 'recipe')}-{study.name}"
    document["tuning"] = {
        "trials": len(done),
        "folds": tuning.rule.folds,
        "parts": tuning.rule.parts,
        "metric": tuning.rule.metric,
        "value": best.value,
        "seconds": round(sum(trial.seconds for trial in done), 1),
    }
    seeds = {"seeds": list(study.seeds)} if study.seeds else {}
    if seeds:
        document.pop("seed", None)
    share = f"{tuning.rule.folds} of {tuning.rule.parts}" if tuning.rule.folds < tuning.rule.parts else "all"
    head = (
        f"# The best of {len(done)} settings by {tuning.rule.metric} on held-out training classes "
        f"({share} folds); no test class was looked at.\n"
    )
    references = {} if study.references else {"references": False}
    return head + write_document({**document, **seeds, **references})
