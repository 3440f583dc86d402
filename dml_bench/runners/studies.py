"""Trials of a search, as optuna keeps them in a data base."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dml_bench.errors import DmlBenchError, ResultsError
from dml_bench.evaluation.scores import as_csv
from dml_bench.recipe.space import Dimension, Study


@dataclass(frozen=True)
class Rule:
    """How settings are judged: the mean of ``metric`` over the first ``folds`` of ``parts`` parts of the classes."""

    metric: str
    parts: int
    folds: int


@dataclass(frozen=True)
class Trial:
    """One setting that was tried.

    Attributes:
        study: the name of the study.
        number: of the trial in it, from 1.
        params: the settings by dotted path.
        value: the mean over the folds; nan if training diverged.
        folds: the value of each fold.
        seconds: what the trial took.
        reason: why there is no value.
    """

    study: str
    number: int
    params: dict[str, Any]
    value: float
    folds: tuple[float, ...]
    seconds: float
    reason: str = ""


def suggest(trial: Any, dimension: Dimension) -> Any:
    """Return the value of a setting that optuna proposes for a trial."""
    name = dimension.name
    if dimension.choices:
        shown = [json.dumps(choice) for choice in dimension.choices]
        return json.loads(trial.suggest_categorical(name, shown))
    if dimension.whole:
        step = int(dimension.step or 1)
        return trial.suggest_int(name, int(dimension.low), int(dimension.high), step=step, log=dimension.log)
    return trial.suggest_float(name, dimension.low, dimension.high, step=dimension.step, log=dimension.log)


def open_study(path: Path, name: str, about: Mapping[str, Any]) -> Any:
    """Return a study of a data base, new or with what was tried before.

    Args:
        path: the file of the data base.
        name: of the study.
        about: what decides whether its trials may be gone on with; plain JSON values.

    Raises:
        ResultsError: if it is about something else.
    """
    optuna, now = need_optuna(), json.dumps(about)
    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})
        opened = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        known = opened.user_attrs.get("about")
        if known is None:
            opened.set_user_attr("about", now)
    except Exception as error:  # of the data base, whatever its library raises
        raise ResultsError(f"{path}: cannot be used: {type(error).__name__}: {error}".splitlines()[0]) from None
    if known not in (None, now):
        differs = [name for name, value in about.items() if json.loads(known).get(name) != value]
        raise ResultsError(
            f"{path}: holds the study '{name}' of another {', '.join(differs)}; choose another folder with --out"
        )
    return opened


def finished(opened: Any, study: Study) -> list[Trial]:
    """Return the trials that count: with a value, or with the reason why there is none."""
    state = need_optuna().trial.TrialState
    ended = opened.get_trials(deepcopy=False, states=[state.COMPLETE, state.PRUNED])
    kinds = {dimension.name: dimension for dimension in study.dimensions}
    return [
        Trial(
            study.name,
            number,
            {
                name: json.loads(value) if name in kinds and kinds[name].choices else value
                for name, value in trial.params.items()
            },
            math.nan if trial.value is None else trial.value,
            tuple(trial.user_attrs["folds"]),
            trial.user_attrs["seconds"],
            trial.user_attrs.get("reason", ""),
        )
        for number, trial in enumerate(ended, start=1)
    ]


def trials_csv(trials: Sequence[Trial]) -> str:
    """Write trials, one a line: study, number, value and those of the folds, seconds, reason, settings as JSON."""
    names = sorted({name for trial in trials for name in trial.params})
    lines = []
    for trial in trials:
        value = "" if math.isnan(trial.value) else repr(trial.value)
        settings = [json.dumps(trial.params[name]) if name in trial.params else "" for name in names]
        folds = " ".join(map(repr, trial.folds))
        lines.append([trial.study, trial.number, value, folds, trial.seconds, trial.reason, *settings])
    return as_csv(["study", "trial", "value", "folds", "seconds", "reason", *names], lines)


def need_optuna() -> Any:
    """Return the module ``optuna``, which says no more than warnings.

    Raises:
        DmlBenchError: if it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise DmlBenchError("tune needs optuna: pip install 'dml-bench[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
