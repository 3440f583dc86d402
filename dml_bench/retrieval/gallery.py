"""Galleries of a report: what the best row of each section finds for its best, its worst and some random queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dml_bench.data.dataset import Split
from dml_bench.data.embedding_files import EmbeddingFile
from dml_bench.errors import DataError, DmlBenchError
from dml_bench.randomness import derive_seed
from dml_bench.reports.answers import Answer, Block, Gallery, Shown
from dml_bench.reports.measured import per_query
from dml_bench.reports.summary import Section, sections
from dml_bench.results.record import RunRecord
from dml_bench.retrieval.nearest import nearest
from dml_bench.retrieval.published import data_of, stored

QUERIES, NEIGHBORS = 3, 8
"""Queries of each kind, and what is shown of what each finds."""

DECIDING = ("map@r", "r_precision")
"""Which metric says how well a query fares: the first that was measured; else the rank of its first hit alone."""

Tell = Callable[[str], None]
Rows = npt.NDArray[np.int64]


def galleries(
    records: Sequence[RunRecord], data_root: Path | None = None, tell: Tell = lambda line: None
) -> Iterator[tuple[str, bytes]]:
    """Draw one gallery per data set and protocol, as PNG and SVG; the same records give the same bytes.

    Features that another network made have no images, and no gallery.

    Args:
        records: runs that were read from their folders.
        data_root: folder of the data sets; by default the recipe's, then ``$DML_BENCH_DATA``.
        tell: hears, in one line, why a gallery is missing.

    Yields:
        File name and content; see ``reports.plots.draw`` for the names.

    Raises:
        ResultsError: when two different records claim to be the same run.
    """
    from dml_bench.reports.plots import stem  # matplotlib
    from dml_bench.reports.plots.gallery import drawn_gallery

    found = sections(records)
    for section in found:
        try:
            gallery = gallery_of(section, data_root)
        except DmlBenchError as error:
            tell(f"No gallery of {section.dataset}: {str(error).splitlines()[0]}")
            continue
        for end, content in (drawn_gallery(gallery) if gallery else {}).items():
            yield f"{stem('gallery', section, found)}.{end}", content


def gallery_of(section: Section, data_root: Path | None = None) -> Gallery | None:
    """Return what the best row finds; None where all runs failed, or features were trained on.

    Raises:
        ResultsError, DataError: if the run did not keep what is needed, or the data is not there or has changed.
    """
    run = best_run(section)
    if run is None or len(run.data.get("image_shape", ())) == 1:
        return None
    return gathered(section, run, data_of(run, data_root), stored(run))


def best_run(section: Section) -> RunRecord | None:
    """Return the first seed of the best row, a reference only where nothing else was run; None if all failed."""
    return next((row.finished[0] for row in section.rows if row.finished), None)


def gathered(section: Section, run: RunRecord, split: Split, file: EmbeddingFile) -> Gallery:
    """Return what is shown of a run.

    Raises:
        DataError: if the run kept no results per query, or its embeddings are not those of the data.
    """
    measured = per_query(run)
    if not measured:
        raise DataError(f"{run.folder}: kept no results per query")
    if not np.array_equal(file.labels, split.test.labels):
        raise DataError(f"{run.folder}: the labels of its embeddings are not those of the data")
    blocks = [Block(heading, _answers(run, split, file, measured, rows)) for heading, rows in chosen(measured)]
    row = next(row for row in section.rows if run in row.runs)
    name = " ".join(filter(None, (row.loss, f"({row.options})" if row.options else "")))
    shown = f"{name}, seed {run.seed}: query, then its {NEIGHBORS} nearest; ✓ and solid: its class; ✗ and dashed: not"
    return Gallery(f"{section.dataset}, protocol {section.protocol_id}\n{shown}", tuple(blocks))


def chosen(measured: Mapping[str, npt.NDArray[Any]]) -> list[tuple[str, Rows]]:
    """Choose queries, by their place in ``measured``: the best, the worst, each of another class, and random ones.

    Where queries fare alike, a draw that is always the same decides.
    """
    drawn = np.random.default_rng(derive_seed(0, "gallery")).permutation(len(measured["query"]))
    metric = next((name for name in DECIDING if name in measured), None)
    hits = measured["first_hit_rank"].astype(np.float64)
    worth = measured[metric].astype(np.float64) if metric else -hits
    order = drawn[np.lexsort((hits[drawn], -worth[drawn]))]
    by = metric or "rank of the first hit"
    classes = measured["label"]
    return [
        (f"Best by {by}, one a class", _of_distinct(order, classes)),
        (f"Worst by {by}, one a class", _of_distinct(order[::-1], classes)),
        ("Random", np.sort(drawn[:QUERIES])),
    ]


def _of_distinct(order: Rows, classes: npt.NDArray[Any]) -> Rows:
    """Return the first queries of an order that are of different classes."""
    firsts = np.sort(np.unique(classes[order], return_index=True)[1])[:QUERIES]
    return order[firsts]


def _answers(
    run: RunRecord, split: Split, file: EmbeddingFile, measured: Mapping[str, npt.NDArray[Any]], places: Rows
) -> tuple[Answer, ...]:
    rows: Rows = measured["query"][places]
    everyone = np.ones(len(file.labels), dtype=bool)
    items = np.flatnonzero(everyone if file.gallery is None else file.gallery)
    at = np.searchsorted(items, rows)
    own = np.where(np.append(items, -1)[at] == rows, at, -1)
    same = file.labels[items] == file.labels[rows, None]
    depth = min(NEIGHBORS, len(items) - int((own >= 0).any()))
    distance = run.recipe.get("evaluation", {}).get("distance", "cosine")
    found, _ = nearest(file.embeddings[rows], file.embeddings[items], depth, distance, own, same)
    names = split.test.class_names

    def shown(row: int, note: str = "", right: bool | None = None) -> Shown:
        return Shown(np.asarray(split.test.images[row]), names[file.labels[row]], note, right)

    return tuple(
        Answer(
            shown(row, f"first right: {int(measured['first_hit_rank'][place])}"),
            tuple(shown(int(items[i]), right=bool(same[number, i])) for i in found[number]),
        )
        for number, (place, row) in enumerate(zip(places.tolist(), rows.tolist(), strict=True))
    )
