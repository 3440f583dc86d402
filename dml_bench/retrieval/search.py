"""Search for images of one's own: in a run's test images, or in any folder of images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dml_bench.data.folder import SUFFIXES
from dml_bench.data.pictures import ImageArray, Images, LazyImages, Rows, SelectedImages
from dml_bench.data.preparing import Preparation, preparation
from dml_bench.data.sources import open_source
from dml_bench.errors import DataError, DmlBenchError
from dml_bench.reports.answers import Answer, Block, Gallery, Shown
from dml_bench.retrieval.nearest import nearest
from dml_bench.retrieval.published import Published, data_of, file_names, files_tested, stored

SHOWN = 10
"""Files that a message lists."""


@dataclass(frozen=True, eq=False)
class Library:
    """What is searched.

    Attributes:
        name: where it comes from.
        images: ``(G, H, W, C)`` uint8, as the network sees them; may be decoded when asked for.
        embeddings: ``(G, D)``.
        files: the file of each, or what else it is called.
        classes: the class of each; empty where none is known.
    """

    name: str
    images: ImageArray
    embeddings: npt.NDArray[Any]
    files: Sequence[str]
    classes: Sequence[str]


@dataclass(frozen=True)
class Hit:
    """One item that was found; ``value`` is the cosine similarity, or the distance if the run measures that."""

    rank: int
    file: str
    class_name: str
    value: float
    row: int


@dataclass(frozen=True, eq=False)
class Found:
    """What was found for one image; ``image`` is ``(H, W, C)`` uint8 as the network sees it."""

    query: Path
    image: Images
    hits: tuple[Hit, ...]


def preparation_of(run: Published) -> Preparation:
    """Return what makes an image file like the run's test images.

    Raises:
        DataError: if the run's data are features.
    """
    return preparation(run.recipe.dataset, run.image_shape)


def test_library(run: Published, data_root: Path | None = None) -> Library:
    """Return the images that the run was tested on: of a split with queries and a gallery, the gallery.

    Raises:
        DataError: if the data are not at hand, or others than when it was run.
    """
    file, part = stored(run.record), data_of(run.record, data_root).test
    rows = np.arange(len(file.labels)) if file.gallery is None else np.flatnonzero(file.gallery)
    names = file_names(files_tested(run.record, data_root), rows)
    classes = [part.class_names[label] for label in part.labels[rows].tolist()]
    images = SelectedImages.of(part.images, rows)
    _check_stored(run, images, file.embeddings[rows])
    return Library(f"test images of {run.record.dataset}", images, file.embeddings[rows], names, classes)


def _check_stored(run: Published, images: ImageArray, embeddings: npt.NDArray[Any]) -> None:
    """Compare some stored embeddings with those of the network, to within low precision."""
    some = np.unique(np.linspace(0, len(embeddings) - 1, 4, dtype=np.int64))
    now, then = run.embed(np.asarray(images[some])).astype(np.float64), embeddings[some].astype(np.float64)
    if now.shape != then.shape or np.linalg.norm(now - then) > 0.05 * np.linalg.norm(then):
        raise DataError(
            f"{run.record.folder}: embeddings.npz and checkpoint.pt are not of one network: "
            "test images come out otherwise than they were stored"
        )


def folder_library(run: Published, folder: Path) -> Library:
    """Embed the images in a folder, zip or tar file and below; the class of each is the folder it lies in.

    Files whose name does not end like an image's are passed over.

    Raises:
        DataError: if there is no image, or some cannot be read, which are named.
    """
    source = open_source(folder)
    files = [name for name in source.stamps if name.lower().endswith(SUFFIXES)]
    if not files:
        raise DataError(f"{folder}: there is no image in it; names must end in {', '.join(SUFFIXES)}")
    prepare = preparation_of(run)

    def one(name: str) -> Images:
        (data,) = source.read([name])
        return prepare(data, f"{folder}/{name}")

    def make(rows: Rows) -> Images:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.stack(list(pool.map(one, [files[row] for row in rows.tolist()])))

    def problem(name: str) -> str:
        try:
            one(name)
        except DataError as error:
            return printable(str(error))
        return ""

    images = LazyImages((len(files), *prepare.shape), make)
    try:
        embeddings = run.embed(images)
    except DataError as error:  # of the first; all of them are of use
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            problems = [line for line in pool.map(problem, files) if line]
        raise (DataError(_listed(problems, folder, len(files))) if problems else error) from None
    names = [printable(name) for name in files]
    classes = [name.rpartition("/")[0] for name in names]
    return Library(printable(str(folder)), images, embeddings, names, classes if any(classes) else [])


def _listed(problems: Sequence[str], folder: Path, total: int) -> str:
    if len(problems) == 1:
        return problems[0]
    more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    head = f"{printable(str(folder))}: {len(problems)} of {total} images cannot be read:"
    return "\n".join([head, *problems[:SHOWN], *more])


def read_queries(run: Published, files: Sequence[Path]) -> Images:
    """Read image files as the run's test images were.

    Raises:
        DataError: naming a file that is not there, or is no image.
    """
    prepare = preparation_of(run)
    return np.stack([prepare(_bytes(file), str(file)) for file in files])


def search(run: Published, library: Library, files: Sequence[Path], images: Images, k: int) -> list[Found]:
    """Find the ``k`` nearest items of the library for each query.

    Args:
        run: whose network is asked.
        library: what is searched.
        files: of the queries.
        images: ``(Q, H, W, C)`` what was read from them.
        k: how many are found for each.

    Raises:
        DmlBenchError: if ``k`` is not from 1 to the number of items.
    """
    if not 1 <= k <= len(library.embeddings):
        raise DmlBenchError(f"-k {k}: must be from 1 to {len(library.embeddings)}, the images of the gallery")
    asked = run.embed(images)
    if run.recipe.evaluation.distance == "cosine":
        _check_lengths(asked, [printable(str(file)) for file in files])
        _check_lengths(library.embeddings, library.files)
    rows, values = nearest(asked, library.embeddings, k, run.recipe.evaluation.distance)
    return [
        Found(file, image, tuple(_hit(library, *place) for place in enumerate(zip(near, value, strict=True), start=1)))
        for file, image, near, value in zip(files, images, rows.tolist(), values.tolist(), strict=True)
    ]


def _check_lengths(embeddings: npt.NDArray[Any], names: Sequence[str]) -> None:
    for row in np.flatnonzero(~embeddings.any(axis=1)).tolist():
        raise DataError(f"{names[row]}: its embedding has length 0, so that the cosine says nothing of it")


def as_gallery(run: Published, library: Library, found: Sequence[Found]) -> Gallery:
    """Return what a picture or page shows of a search."""
    record, words = run.record, "distance" if run.recipe.evaluation.distance == "euclidean" else "similarity"
    title = f"{record.loss}, seed {record.seed}, of {record.dataset}: nearest in {library.name}\n"
    title += f"below each its class and file, as far as known, and its {words}"
    return Gallery(title, (Block("", tuple(_answer(library, item) for item in found)),))


def _answer(library: Library, item: Found) -> Answer:
    tiles = (
        Shown(np.asarray(library.images[hit.row]), hit.class_name, f"{hit.value:.3f}", file=hit.file)
        for hit in item.hits
    )
    return Answer(Shown(item.image, "", "query", file=printable(item.query.name)), tuple(tiles))


def _hit(library: Library, rank: int, near: tuple[int, float]) -> Hit:
    row, value = near
    return Hit(rank, library.files[row], library.classes[row] if library.classes else "", value, row)


def printable(name: str) -> str:
    """Return a name with control characters, which a terminal would obey, written out."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in name)


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None
