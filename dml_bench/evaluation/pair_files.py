"""Read which pairs of rows are to be verified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int64

from dml_bench.errors import DataError
from dml_bench.evaluation.items import PairList

SAME = {"1": True, "true": True, "same": True, "0": False, "false": False, "different": False}


def read_pairs(path: Path) -> PairList:
    """Read a CSV file with the columns ``first``, ``second``, ``same`` and, for a cross-validation, ``fold``.

    ``first`` and ``second`` are rows of the embeddings, counted from 0; ``same`` is 1 or 0, true or false; ``fold`` is
    a whole number.

    Raises:
        DataError: naming the file, and the line of the first value that is none of these.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable CSV file: {error}") from None
    missing = [name for name in ("first", "second", "same") if name not in table]
    if missing or not len(table):
        what = f"no column {', '.join(missing)}" if missing else "no pair"
        raise DataError(f"{path}: {what}; it must have the columns first, second, same and may have fold")
    same = table["same"].str.strip().str.lower().map(SAME)
    _refuse(path, table["same"], same.isna(), "same", "1 or 0")
    folds = _whole(path, table["fold"], "fold") if "fold" in table else None
    return PairList(
        _whole(path, table["first"], "first"), _whole(path, table["second"], "second"), same.to_numpy(bool), folds
    )


def _whole(path: Path, column: Any, name: str) -> Int64[np.ndarray, " P"]:
    _refuse(path, column, ~column.str.fullmatch(r"\s*[0-9]{1,18}\s*"), name, "a whole number")
    found: Int64[np.ndarray, " P"] = column.astype(np.int64).to_numpy()
    return found


def _refuse(path: Path, column: Any, bad: Any, name: str, allowed: str) -> None:
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise DataError(f"{path}:{row + 2}: {name} must be {allowed}, not {column.iloc[row]!r}")
