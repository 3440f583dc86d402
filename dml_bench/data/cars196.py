"""Cars196 (Stanford Cars): 16,185 photographs of 196 models of cars, in the three layouts that go round."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from dml_bench.data.archive import find_below, naming, places
from dml_bench.data.catalog import check_counts, check_missing, dataset, half_of_classes, variant
from dml_bench.data.listing import TEST, TRAIN, Listing, Source
from dml_bench.data.sources import Joined, class_names, open_source, whole_numbers
from dml_bench.errors import DataError

FOLDERS = ("cars196", "Cars196", "CARS196", "stanford_cars", "stanford-cars", "cars196_train24", ".")
OFFICIAL = (16_185, 196)
HALVES = ("train", "test")

Layout = Literal["auto", "car_ims", "devkit", "by_class"]


class Car(NamedTuple):
    """One row of an annotation file: half ("train" or "test"), file, class from 1, box with both ends inclusive."""

    half: str
    file: str
    label: int
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Copy:
    """What a layout holds: its annotations, their images by half and file name, and the names of the classes."""

    cars: list[Car]
    source: Source
    images: Mapping[tuple[str, str], str]
    names: list[str]


@dataset("cars196")
def cars196(
    root: Path | None,
    /,
    *,
    split: Literal["class_disjoint", "official_closed"] = "class_disjoint",
    layout: Layout = "auto",
    partial: bool = False,
    boxes: bool = False,
) -> Listing:
    """Read Cars196, 196 models of cars: models 1 to 98 to train (8,054 images), 99 to 196 to test (8,131).

    Looks below ``root`` for one of three layouts; ``auto`` takes the first that is there:

    - ``car_ims``: the folder, zip or tar file ``car_ims`` (any that ``cars_annos.mat`` names) beside that file.
    - ``devkit``: ``cars_train`` and ``cars_test`` beside ``devkit/`` with ``cars_meta.mat``, ``cars_train_annos.mat``
      and ``cars_test_annos_withlabels.mat``.
    - ``by_class``: ``car_data`` with class folders, beside ``names.csv``, ``anno_train.csv`` and ``anno_test.csv``.

    ``split: official_closed`` takes the authors' split for classification instead, the same models on both sides.
    ``partial: true`` allows a copy with fewer images, and halves the models present. ``boxes: true`` cuts each image to
    the car. Each of these is another protocol.

    Raises:
        DataError: if files are missing or damaged, or images and models are not the official ones in number.

    Source:
        Krause, Stark, Deng, Fei-Fei, "3D Object Representations for Fine-Grained Categorization", 3dRR 2013.
    """
    copy = _open(places(root, FOLDERS, "car_ims"), layout)
    where = str(copy.source.path)
    cars = [car for car in copy.cars if (car.half, car.file) in copy.images] if partial else copy.cars
    check_missing(where, [car.file for car in cars if (car.half, car.file) not in copy.images])
    present, labels = np.unique(whole_numbers([car.label for car in cars], where), return_inverse=True)
    cut = check_counts(where, (len(cars), len(present)), OFFICIAL, partial)
    roles = half_of_classes(labels.astype(np.int64), where)
    if split == "official_closed":
        roles = np.array([TRAIN if car.half == "train" else TEST for car in cars], dtype=np.int8)
    cutting = np.array([car.box for car in cars], dtype=np.float64) - [1, 1, 0, 0]  # both ends are inclusive, from 1
    return Listing(
        "cars196",
        copy.source,
        tuple(copy.images[car.half, car.file] for car in cars),
        labels.astype(np.int64),
        roles,
        class_names(dict(enumerate(copy.names, start=1)), present.tolist(), where),
        boxes=cutting if boxes else None,
        variant=variant(partial=cut, boxes=boxes, split=split),
    )


def _open(looked: Sequence[Path], layout: Layout) -> Copy:
    openers = {"car_ims": _open_combined, "devkit": _open_devkit, "by_class": _open_by_class}
    for place in looked:
        for name, opener in openers.items():
            if layout in ("auto", name) and (copy := opener(place)):
                return copy
    raise DataError(
        f"cars196: no copy in the layout '{layout}' is in any of: {', '.join(map(str, looked))}; needed are "
        "cars_annos.mat beside car_ims, or devkit/ beside cars_train and cars_test, or names.csv and anno_train.csv "
        "beside car_data"
    )


def _open_combined(place: Path) -> Copy | None:
    """Read ``cars_annos.mat``, whose paths begin with the name of the folder or archive beside it."""
    if not (place / "cars_annos.mat").is_file():
        return None
    annotations, names = _matlab(place / "cars_annos.mat", "annotations", "class_names")
    with _rows_of(place / "cars_annos.mat"):
        cars = [
            Car("test" if row["test"] else "train", str(row["relative_im_path"]), int(row["class"]), _box(row))
            for row in annotations
        ]
    folders = sorted({car.file.split("/")[0] for car in cars})
    mounts = {folder: found for folder in folders if (found := find_below([place], folder))}
    if not mounts:
        return None
    source = _joined(place, mounts)
    by_path = {_mounted(name): name for name in source.stamps}
    return Copy(cars, source, {(c.half, c.file): by_path[c.file] for c in cars if c.file in by_path}, list(names))


def _open_devkit(place: Path) -> Copy | None:
    """Read the two halves of the devkit; without labels, the test half is left out."""
    mounts = {f"cars_{half}": found for half in HALVES if (found := find_below([place], f"cars_{half}"))}
    meta = _file(place, ("devkit/cars_meta.mat", "car_devkit/devkit/cars_meta.mat", "cars_meta.mat"))
    if not mounts or meta is None:
        return None
    cars: list[Car] = []
    for half, files in zip(
        HALVES,
        (("cars_train_annos.mat",), ("cars_test_annos_withlabels.mat", "cars_test_annos.mat")),
        strict=True,
    ):
        path = _file(place, [name for file in files for name in (str(meta.parent / file), file)])
        if path is not None:
            (annotations,) = _matlab(path, "annotations")
            if "class" in (annotations.dtype.names or ("class",)):
                with _rows_of(path):
                    cars += [Car(half, str(row["fname"]), int(row["class"]), _box(row)) for row in annotations]
    source = _joined(place, mounts)
    return Copy(cars, source, dict(_by_file(source)), list(_matlab(meta, "class_names")[0]))


def _open_by_class(place: Path) -> Copy | None:
    """Read class folders with their lists; a row is ``file, box, class``."""
    path = find_below([place], "car_data") or find_below([place], "cars_train")
    if path is None or not (place / "names.csv").is_file():
        return None
    cars: list[Car] = []
    for half in HALVES:
        for number, row in enumerate(_csv(place / f"anno_{half}.csv"), start=1):
            try:
                file, x1, y1, x2, y2, label = row
                cars.append(Car(half, file, int(label), (float(x1), float(y1), float(x2), float(y2))))
            except ValueError as error:
                raise DataError(f"{place}/anno_{half}.csv:{number}: must be 'file, x1, y1, x2, y2, class'") from error
    names = [line[0] for line in _csv(place / "names.csv", delimiter="\n")]
    source = _joined(place, {path.name.split(".")[0]: path})
    return Copy(cars, source, dict(_by_file(source)), names)


def _joined(place: Path, mounts: Mapping[str, Path]) -> Source:
    return Joined(place, {at: open_source(path) for at, path in mounts.items()})


def _by_file(source: Source) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield half and file name of each image, and its name in the source; a half is told by the folders above it."""
    for name in source.stamps:
        if name.lower().endswith(".jpg"):
            *above, file = name.split("/")
            yield ("test" if {"test", "cars_test"} & set(above) else "train", file), name


def _mounted(name: str) -> str:
    """Return ``a/x.jpg`` for ``a/a/x.jpg``: an archive may or may not hold the folder that it is named after."""
    first, _, rest = name.partition("/")
    return rest if rest.startswith(f"{first}/") else name


def _file(place: Path, names: Sequence[str]) -> Path | None:
    return next((place / name for name in names if (place / name).is_file()), None)


def _box(row: Any) -> tuple[float, float, float, float]:
    return float(row["bbox_x1"]), float(row["bbox_y1"]), float(row["bbox_x2"]), float(row["bbox_y2"])


def _matlab(path: Path, *names: str) -> list[Any]:
    """Read variables of a MATLAB file."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    with naming(path):
        try:
            content = loadmat(BytesIO(path.read_bytes()), squeeze_me=True)
            return [np.atleast_1d(content[name]) for name in names]
        except (MatReadError, ValueError, TypeError, KeyError, NotImplementedError) as error:
            raise OSError(f"not the MATLAB file of {', '.join(names)}: {error}") from error


@contextmanager
def _rows_of(path: Path) -> Iterator[None]:
    """Name the file whose rows lack a field, or hold something else than they should."""
    try:
        yield
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise DataError(f"{path}: not the annotations of Cars196: {error}") from error


def _csv(path: Path, delimiter: str = ",") -> list[list[str]]:
    if not path.is_file():
        return []
    with naming(path):
        text = path.read_text(encoding="utf-8-sig")
        if delimiter == "\n":
            return [[line.strip().strip('"')] for line in text.splitlines() if line.strip()]
        return [row for row in csv.reader(text.splitlines()) if row]
