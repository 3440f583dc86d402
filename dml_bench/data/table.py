"""One's own images: a table with a path and a label for each."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from unicodedata import normalize

import numpy as np
import numpy.typing as npt
import pandas as pd

from dml_bench.data.archive import find_below, naming
from dml_bench.data.catalog import dataset, half_of_classes, variant
from dml_bench.data.dataset import Labels
from dml_bench.data.folder import resolve
from dml_bench.data.listing import GALLERY, QUERY, TEST, TRAIN, Listing, Roles, Source
from dml_bench.data.sources import Joined, only, open_source
from dml_bench.errors import DataError

COLUMNS = {
    "path": ("path", "image_path", "file", "filename", "image"),
    "label": ("label", "class", "class_id", "target"),
    "class name": ("class_name", "label_name"),
    "split": ("split", "subset"),
    "query": ("is_query",),
    "gallery": ("is_gallery",),
    "super-class": ("super_label", "super_class", "super_class_id", "category"),
}
"""What a column may be called; capitals do not matter."""

BOXES = (("left", "top", "right", "bottom"), ("x_1", "y_1", "x_2", "y_2"), ("x", "y", "width", "height"))
SPLITS = {"train": TRAIN, "test": TEST, "query": QUERY, "gallery": GALLERY, "val": TEST, "validation": TEST}
TRUTH = {"1": True, "true": True, "yes": True, "1.0": True, "0": False, "false": False, "no": False, "0.0": False}


@dataset("table")
def table(
    root: Path | None,
    /,
    *,
    path: str,
    images: str | None = None,
    split: Literal["class_disjoint", "official_closed"] = "class_disjoint",
    boxes: bool = False,
) -> Listing:
    """Read images of one's own from a table, CSV or Parquet, with the columns path and label.

    Further columns, none of them needed: ``split`` (train, test, or query and gallery; val is test), ``is_query`` and
    ``is_gallery`` (of test images), ``class_name``, ``super_label``, and a box in pixels: ``left, top, right, bottom``,
    or ``x_1, y_1, x_2, y_2``, or ``x, y, width, height``. Without ``split``, the first half of the classes trains. A
    split with a class on both sides is refused unless ``split: official_closed`` allows it. Boxes cut only if ``boxes:
    true`` says so.

    Args:
        root: folder of the data sets.
        path: of the table; absolute, or relative to ``root``, or else to the current folder.
        images: folder, zip or tar file that the paths begin in; by default the table's folder, where ``photos/1.jpg``
            may lie in ``photos.zip`` as well.
        split: whether a class may be to train and to test.
        boxes: whether images are cut to their boxes.

    Raises:
        DataError: naming the row, if a column, a label or an image is missing, or a value is not allowed.
    """
    file = resolve(root, path)
    rows = _read(file)
    paths = _filled(rows, "path", file)
    names, labels = _classes(rows, file)
    source, inside = _sources(file, paths, resolve(root, images) if images else None)
    roles = _roles(rows, labels, file)
    if roles is None:
        if split == "official_closed":
            raise DataError(f"{file}: 'split: official_closed' needs a column split")
        roles = half_of_classes(labels, str(file))
    shared = np.intersect1d(labels[roles == TRAIN], labels[roles != TRAIN])
    if len(shared) and split == "class_disjoint":
        raise DataError(
            f"{file}: {len(shared)} classes are to train and to test, such as '{names[shared[0]]}'; retrieval is "
            "tested on classes not seen, unless 'split: official_closed' allows it"
        )
    supers = _column(rows, "super-class")
    kinds = np.zeros(len(names), dtype=np.int64)
    if supers is not None:
        kinds[labels] = np.unique(supers, return_inverse=True)[1]
    return Listing(
        "table",
        source,
        tuple(inside),
        labels,
        roles,
        names,
        boxes=_boxes(rows, file) if boxes else None,
        super_labels=None if supers is None else kinds,
        variant=variant(boxes=boxes, official_closed=bool(len(shared))),
    )


def _read(file: Path) -> pd.DataFrame:
    """Return the table as texts, its columns in small letters."""
    with naming(file):
        try:
            if file.suffix.lower() in (".parquet", ".pq"):
                rows = pd.read_parquet(file)
                rows = rows.map(lambda value: "" if pd.isna(value) else str(value))
            else:
                rows = _read_csv(file)
        except ImportError as error:
            raise OSError(f"Parquet needs the package pyarrow: {error}") from error
        except (ValueError, csv.Error) as error:  # pandas's, pyarrow's and Unicode errors are ValueErrors
            raise OSError(f"not a table: {error}") from error
    rows.columns = pd.Index([str(column).strip().lower() for column in rows.columns])
    if not rows.columns.is_unique:
        raise DataError(f"{file}: has two columns named '{rows.columns[rows.columns.duplicated()][0]}'")
    if not len(rows):
        raise DataError(f"{file}: has no row")
    return rows


def _read_csv(file: Path) -> pd.DataFrame:
    """Return the texts of a table whose columns commas, semicolons or tabs part, as in its header."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        head = lines.readline()
        lines.seek(0)
        reader = csv.reader(lines, delimiter=max(",;\t", key=head.count), strict=True)
        columns = next(reader, [])
        rows = []
        for row in reader:
            if row and len(row) != len(columns):
                raise ValueError(f"line {reader.line_num} has {len(row)} values for {len(columns)} columns")
            rows.append(row)
    return pd.DataFrame([row for row in rows if row], columns=pd.Index(columns), dtype=str)


def _column(rows: pd.DataFrame, what: str) -> list[str] | None:
    name = next((name for name in COLUMNS[what] if name in rows.columns), None)
    return None if name is None else [str(value).strip() for value in rows[name]]


def _filled(rows: pd.DataFrame, what: str, file: Path) -> list[str]:
    values = _column(rows, what)
    if values is None:
        raise DataError(
            f"{file}: has no column {' or '.join(COLUMNS[what])}; its columns are {', '.join(map(str, rows.columns))}"
        )
    if "" in values:
        raise DataError(f"{_row(file, values.index(''))}: the {what} is empty")
    return values


def _row(file: Path, index: int) -> str:
    return f"{file}: row {index + 1}"


def _classes(rows: pd.DataFrame, file: Path) -> tuple[tuple[str, ...], Labels]:
    """Return class names and labels; classes are in the order of their numbers, or else of their names."""
    values = _column(rows, "label")
    shown = _column(rows, "class name")
    if values is None:
        values = shown if shown is not None else _filled(rows, "label", file)
    if "" in values:
        raise DataError(f"{_row(file, values.index(''))}: the label is empty")
    distinct = set(values)
    numeric = all(value.isdecimal() for value in distinct)
    ordered = sorted(distinct, key=int) if numeric else sorted(distinct, key=lambda name: (name.casefold(), name))
    number = {value: label for label, value in enumerate(ordered)}
    labels = np.array([number[value] for value in values], dtype=np.int64)
    names = dict(zip(values, shown, strict=True)) if shown else {}
    return tuple(names.get(value) or value for value in ordered), labels


def _sources(file: Path, paths: Sequence[str], images: Path | None) -> tuple[Source, list[str]]:
    """Return where the images lie, and their names there, once all are found."""
    spellings = [_spellings(path) for path in paths]
    source: Source
    if images is not None:
        source = open_source(images)
        looked = [[*names, *(name.split("/", 1)[-1] for name in names)] for names in spellings]
    else:
        source, looked = only(file.parent, [name for names in spellings for name in names]), spellings
        if not source.stamps:
            tops = {name.split("/")[0] for names in spellings for name in names}
            archives = {top: found for top in tops if (found := _archive(file, top))}
            source = Joined(file.parent, {top: open_source(path) for top, path in archives.items()})
            looked = [[*(f"{top}/{n}" for n in names for top in archives), *names] for names in spellings]
    inside = [next((name for name in names if name in source.stamps), None) for names in looked]
    if None in inside:
        index = inside.index(None)
        raise DataError(f"{_row(file, index)}: the image {paths[index]} is not in {source.path}")
    return source, [name for name in inside if name is not None]


def _spellings(path: str) -> list[str]:
    """Return a path as it is written, with the strokes of Windows turned, and its letters composed and decomposed."""
    written = dict.fromkeys((path, path.replace("\\", "/")))
    return list(dict.fromkeys(f for p in written for f in (p, normalize("NFC", p), normalize("NFD", p))))


def _archive(file: Path, name: str) -> Path | None:
    return find_below([file.parent], name) if name not in ("", ".", "..") else None


def _roles(rows: pd.DataFrame, labels: Labels, file: Path) -> Roles | None:
    """Return what the columns split, is_query and is_gallery say, or None without a column split."""
    values = _column(rows, "split")
    if values is None:
        return None
    words = [value.lower() for value in values]
    if odd := [i for i, word in enumerate(words) if word not in SPLITS]:
        raise DataError(f"{_row(file, odd[0])}: split must be one of {', '.join(SPLITS)}, not '{values[odd[0]]}'")
    if "test" in words and {"val", "validation"} & set(words):
        raise DataError(f"{file}: has both test and validation images; leave one of them out")
    roles = np.array([SPLITS[word] for word in words], dtype=np.int8)
    queries, gallery = (_truths(rows, what, file) for what in ("query", "gallery"))
    if (queries is None) != (gallery is None):
        there, lost = ("is_query", "is_gallery") if gallery is None else ("is_gallery", "is_query")
        raise DataError(f"{file}: has the column {there} but not {lost}; both or neither are needed")
    if queries is not None and gallery is not None:
        tests = roles != TRAIN
        if idle := np.flatnonzero(tests & ~queries & ~gallery).tolist():
            raise DataError(f"{_row(file, idle[0])}: a test image is neither a query nor in the gallery")
        roles[tests & queries & ~gallery] = QUERY
        roles[tests & gallery & ~queries] = GALLERY
    if not (roles == TRAIN).any() or not (roles != TRAIN).any():
        raise DataError(f"{file}: the column split must name images to train and images to test")
    return roles


def _truths(rows: pd.DataFrame, what: str, file: Path) -> npt.NDArray[np.bool_] | None:
    values = _column(rows, what)
    if values is None:
        return None
    words = [value.lower() or "false" for value in values]
    if odd := [i for i, word in enumerate(words) if word not in TRUTH]:
        raise DataError(f"{_row(file, odd[0])}: is_{what} must be true or false, not '{values[odd[0]]}'")
    return np.array([TRUTH[word] for word in words], dtype=np.bool_)


def _boxes(rows: pd.DataFrame, file: Path) -> npt.NDArray[np.float64]:
    names = next((names for names in BOXES if set(names) <= set(rows.columns)), None)
    if names is None:
        choices = ", or ".join(" ".join(names) for names in BOXES)
        raise DataError(f"{file}: 'boxes: true' needs the columns {choices}")
    columns: list[Any] = [pd.to_numeric(rows[name], errors="coerce") for name in names]
    boxes = np.stack(columns, axis=1).astype(np.float64)
    if names[2] == "width":
        boxes[:, 2:] += boxes[:, :2]
    wrong = ~np.isfinite(boxes).all(1) | (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])
    if wrong.any():
        raise DataError(f"{_row(file, int(wrong.argmax()))}: the box is not one: {boxes[wrong.argmax()].tolist()}")
    return boxes
