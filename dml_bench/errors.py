"""Every error the package raises on purpose, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing wrong, and where: ``path`` leads to the offending value, such as ``("loss", "margin")``."""

    path: Path
    message: str

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.message}" if self.path else self.message


class DmlBenchError(Exception):
    """What is wrong, where, and what is allowed. The command line prints it and exits with ``exit_code``."""

    exit_code = 2


class OptionError(DmlBenchError, ValueError):
    """An unknown name, or options that a registered factory does not take. ``problems`` lists all of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, problems)))


class RecipeError(DmlBenchError, ValueError):
    """A recipe that cannot be run; its text has one ``file:line: path: what`` line per problem."""

    def __init__(self, text: str, problems: Sequence[Problem] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__(text)


class DataError(DmlBenchError, ValueError):
    """Images, labels or embeddings that are missing, damaged or of the wrong shape, type or range."""


class ResultsError(DmlBenchError):
    """A results folder that cannot be read or written."""


class DiskFullError(ResultsError):
    """A full disk, which is no failure of a run: the grid stops, and goes on when there is room."""


class RunTaken(DmlBenchError):  # noqa: N818  it is no mistake
    """A run that another living process is doing."""


class ContractError(DmlBenchError, AssertionError):
    """A loss that breaks a rule every loss obeys; a test that meets it has failed."""

    exit_code = 1


class TrainingError(DmlBenchError):
    """A run that cannot go on, such as one whose loss is no longer finite. Recorded as a failed run."""

    exit_code = 1


class DivergedError(TrainingError):
    """A run whose loss or embeddings are no longer finite."""


def dotted(path: Path) -> str:
    """Write a path as a person would: ``("grid", "loss", 0, "scale")`` is ``grid.loss[0].scale``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
