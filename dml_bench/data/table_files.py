"""Embeddings and labels from ``.csv``, ``.tsv`` and ``.parquet`` tables, one row an item.

Columns: ``label``, optional ``path``, optional split; each other one is a dimension and must hold numbers.
"""

from __future__ import annotations

import csv
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dml_bench.errors import DataError

SPLITS = {
    "query": (True, False),
    "gallery": (False, True),
    "both": (True, True),
    "test": (True, True),
    "train": (False, False),
    "none": (False, False),
}
"""What a split column may say, and whether such a row is a query and in the gallery."""

LISTS = ("embedding", "embeddings")


def read_delimited(path: Path, split: str | None) -> dict[str, Any]:
    """Read a ``.csv`` or ``.tsv`` file with a header; numbers become float64, exactly as Python reads them.

    Memory: 8 bytes a number, at any size of the text. Larger than memory: store ``.npy``.
    """
    rows = _rows(path)
    _, header = next(rows)
    split, dimensions = _roles(path, header, split)
    columns = [header.index(name) for name in dimensions]
    kept = {name: header.index(name) for name in ("label", "path", split) if name in header}
    texts: dict[str, list[str]] = {name: [] for name in kept}
    numbers = array("d")
    for line, row in rows:
        try:
            numbers.extend(_numbers([row[column] for column in columns]))
        except ValueError:
            wrong = next(column for column in columns if not _is_number(row[column]))
            what = f"column {header[wrong]!r} says {row[wrong][:40]!r}, which is not a number; {_allowed(split)}"
            raise DataError(f"{path}:{line}: {what}") from None
        for name, column in kept.items():
            texts[name].append(row[column] if name == "path" else row[column].strip())
    return _named(path, np.frombuffer(numbers).reshape(-1, len(columns)), texts, split)


def read_label_column(path: Path) -> list[str]:
    """Read the column ``label`` of a ``.csv`` or ``.tsv`` file with a header, or its only column."""
    rows = _rows(path)
    _, header = next(rows)
    if "label" not in header and len(header) > 1:
        raise DataError(f"{path}: no column 'label' among {_list(header)}")
    column = header.index("label") if "label" in header else 0
    return [row[column].strip() for _, row in rows]


def read_parquet(path: Path, split: str | None) -> dict[str, Any]:
    """Read a ``.parquet`` file: columns as in a CSV file, or one column of lists named ``embedding``.

    Memory: the whole table, and once more the embeddings.

    Raises:
        DataError: without pyarrow, the extra ``parquet``.
    """
    try:
        table = pd.read_parquet(path, engine="pyarrow")
    except ImportError:
        raise DataError(f"{path}: reading .parquet needs pyarrow: pip install 'dml-bench[parquet]'") from None
    header = [str(name) for name in table.columns]
    split, dimensions = _roles(path, header, split)
    texts = {name: table[name].tolist() for name in ("label", "path", split) if name in header}
    if len(dimensions) == 1 and dimensions[0] in LISTS and table[dimensions[0]].dtype == object:
        return _named(path, _stacked(path, table[dimensions[0]].tolist()), texts, split)
    for name in dimensions:
        if table[name].dtype.kind not in "fiu":
            raise DataError(f"{path}: column {name!r} holds {table[name].dtype}, not numbers; {_allowed(split)}")
    return _named(path, table[dimensions].to_numpy(), texts, split)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells), the header first; blank lines are passed over, ragged ones are errors."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        width = 0
        for row in reader:
            if not row:
                continue
            width = width or len(row)
            if len(row) != width:
                raise DataError(f"{path}:{reader.line_num}: {len(row)} cells, and the header has {width}")
            yield reader.line_num, row
    if not width:
        raise DataError(f"{path}: empty; allowed: a header, then one row an item")


def _roles(path: Path, header: Sequence[str], split: str | None) -> tuple[str, list[str]]:
    """Return the name of the split column and those of the dimensions, in the order of the file."""
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise DataError(f"{path}: more than one column is named {_list(twice)}")
    if nameless := [i for i, name in enumerate(header, 1) if not name.strip() or name.startswith("Unnamed:")]:
        raise DataError(
            f"{path}: column {nameless[0]} has no name, as when a table is written with its index; "
            "name it, or write the table without (index=False)"
        )
    if split is not None and split not in header:
        raise DataError(f"{path}: no split column {split!r} among {_list(header)}")
    dimensions = [name for name in header if name not in ("label", "path", "split", split)]
    if not dimensions:
        raise DataError(f"{path}: no column of numbers among {_list(header)}")
    return split or "split", dimensions


def _named(path: Path, embeddings: Any, texts: dict[str, Any], split: str) -> dict[str, Any]:
    found = {"embeddings": embeddings}
    found |= {key: texts[name] for key, name in (("labels", "label"), ("paths", "path")) if name in texts}
    if split in texts:
        if strange := [value for value in texts[split] if value not in SPLITS]:
            raise DataError(f"{path}: column {split!r} says {strange[0]!r}; allowed: {', '.join(SPLITS)}")
        masks = np.array([SPLITS[value] for value in texts[split]], bool).reshape(-1, 2)
        found |= {"query": masks[:, 0], "gallery": masks[:, 1]}
        if "train" in texts[split]:
            found["train"] = np.array([value == "train" for value in texts[split]], bool)
    return found


def _stacked(path: Path, rows: list[Any]) -> Any:
    for row, value in enumerate(rows):
        if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype.kind not in "fiu":
            raise DataError(f"{path}: row {row}: the embedding is not a list of numbers")
        if len(value) != len(rows[0]):
            raise DataError(f"{path}: row {row}: {len(value)} numbers, and the first row has {len(rows[0])}")
    return np.stack(rows) if rows else np.empty((0, 0))


def _numbers(cells: list[str]) -> list[float]:
    if "_" in "".join(cells):  # Python's 1_0 is 10, and nobody else's
        raise ValueError
    return [float(cell) for cell in cells]


def _is_number(cell: str) -> bool:
    try:
        return bool(_numbers([cell]))
    except ValueError:
        return False


def _allowed(split: str) -> str:
    return f"beside label, path and {split}, every column is a dimension"


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
