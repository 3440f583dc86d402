"""The ledger of published figures: read and browse. Its tables, and how they came about, lie in ``published/``."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files

from dml_bench.errors import ResultsError
from dml_bench.registry import suggestion

UNKNOWN = "unknown"
"""What the ledger says of a condition that the source does not state."""

TABLES = ("retrieval.csv", "other_tasks.csv", "reality_check_validation.csv")


@dataclass(frozen=True)
class Figure:
    """One published figure, as printed.

    Attributes:
        task: ``retrieval``, ``face verification``, ...
        dataset: our key, such as ``cub200``, or the published name where we have none.
        method: as published.
        loss: our registry key of its loss; empty where none fits.
        backbone: our key, or as published, or unknown.
        dim: dimensions of an embedding; ``4x128`` are those of four networks side by side.
        batch: images per batch, or unknown.
        crop: side of the image that the network sees, pixels, or unknown.
        selection: ``last``, ``validation``, ``test_oracle`` or unknown; see ``dml-bench list selections``.
        split: ``test``, or ``validation`` for held-out training classes.
        metric: our name, such as ``recall@1``, or a word for one that we do not have.
        value: in percent, as printed: a number, or a range such as ``14-15``.
        second_hand: whether the source quotes somebody else.
        setting: what else the source says of the conditions.
        conditions: where ``batch``, ``crop`` and ``selection`` are from; empty if none is known.
        source: document and place.
    """

    task: str
    dataset: str
    method: str
    loss: str
    backbone: str
    dim: str
    batch: str
    crop: str
    selection: str
    split: str
    metric: str
    value: str
    second_hand: bool
    setting: str
    conditions: str
    source: str

    @property
    def share(self) -> float:
        """The value as records have it: a share, not percent; the middle of a printed range."""
        low, _, high = self.value.partition("-")
        return (float(low) + float(high or low)) / 200


COLUMNS = tuple(field.name for field in fields(Figure))


@cache
def figures() -> tuple[Figure, ...]:
    """Return every published figure.

    Raises:
        ResultsError: if a table of the ledger is not what it should be, which a damaged installation alone can cause.
    """
    return tuple(figure for table in TABLES for figure in _read(table))


def _read(table: str) -> list[Figure]:
    text = files("dml_bench.reports").joinpath("published", table).read_text(encoding="utf-8")
    header, *lines = csv.reader(text.splitlines())
    if tuple(header) != COLUMNS or any(len(line) != len(COLUMNS) for line in lines):
        raise ResultsError(f"{table}: every line of the ledger has the columns {', '.join(COLUMNS)}")
    cells = [dict(zip(COLUMNS, line, strict=True)) for line in lines]
    return [Figure(**{**cell, "second_hand": cell["second_hand"] == "yes"}) for cell in cells]  # type: ignore[arg-type]


def datasets() -> dict[str, int]:
    """Return the data sets of the ledger with their numbers of figures, the most first."""
    return dict(Counter(figure.dataset for figure in figures()).most_common())


def browse(dataset: str, method: str | None = None, **wanted: str | None) -> list[Figure]:
    """Return the figures of a data set, in the ledger's order.

    Args:
        dataset: our key or the published name, in any case of letters.
        method: a part of the published name, in any case of letters.
        wanted: values of other columns, such as ``loss="softtriple"``; None for any.

    Raises:
        ResultsError: if the ledger has no such data set, or the data set no such figure; with what it has.
    """
    found = [figure for figure in figures() if figure.dataset.casefold() == dataset.casefold()]
    if not found:
        names = list(datasets())
        raise ResultsError(f"the ledger has no data set '{dataset}'{suggestion(dataset, names)}; it has {_list(names)}")
    for column, value in wanted.items():
        if value is None:
            continue
        known = sorted({getattr(figure, column) for figure in found} - {""})
        kept = [figure for figure in found if getattr(figure, column) == value]
        if not kept:
            what = f"{column} '{value}'{suggestion(value, known)}"
            raise ResultsError(f"the ledger has nothing on {dataset} with {what}; it has {_list(known)}")
        found = kept
    if method is None:
        return found
    kept = [figure for figure in found if method.casefold() in figure.method.casefold()]
    if not kept:
        methods = sorted({figure.method for figure in found})
        raise ResultsError(f"no method on {dataset} is called '{method}'; there are {_list(methods)}")
    return kept


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
