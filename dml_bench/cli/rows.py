"""The row of a table that ``FOLDER:NAME`` names, for ``compare`` and ``diff``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from dml_bench.errors import ResultsError
from dml_bench.registry import suggestion
from dml_bench.reports.markdown import printable


@runtime_checkable
class Run(Protocol):
    """What has the ids of a run."""

    @property
    def recipe_id(self) -> str:
        """The id of the recipe, the seed left out."""

    @property
    def run_id(self) -> str:
        """The id of the recipe, and the seed."""


T = TypeVar("T", bound=Run)


def one_row(text: str, runs: Sequence[T], wanted: str, known: Callable[[T], Sequence[str]]) -> list[T]:
    """Return the runs of the one recipe that ``wanted`` names: by its loss, its id, or the id of a run.

    Args:
        text: what the user wrote, for messages.
        runs: to choose from.
        wanted: empty for all of them, which must be of one recipe then.
        known: what tells a run from others in words, its loss first.

    Raises:
        ResultsError: if that is no recipe or several, naming what there is to choose from.
    """
    kept = [run for run in runs if wanted in ("", known(run)[0], run.recipe_id, run.run_id)]
    if runs and not kept:
        losses = sorted({known(run)[0] for run in runs})
        close = suggestion(wanted, [*losses, *sorted({run.recipe_id for run in runs})])
        raise ResultsError(
            printable(f"{text}: no run of a loss or recipe '{wanted}'{close}; the losses are {', '.join(losses)}")
        )
    rows = {run.recipe_id: f"{run.recipe_id} ({', '.join(filter(None, known(run)))})" for run in kept}
    if len(rows) != 1:
        said = ", ".join(sorted(rows.values())) or "none"
        raise ResultsError(printable(f"{text}: must name the runs of one recipe, as FOLDER:RECIPE_ID; it names {said}"))
    return kept
