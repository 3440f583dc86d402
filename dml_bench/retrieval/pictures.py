"""Pictures that take the data or the networks of runs besides their records: galleries and scatters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from dml_bench.errors import DmlBenchError, ResultsError
from dml_bench.reports.summary import Section, sections
from dml_bench.results.record import RunRecord
from dml_bench.retrieval.gallery import Tell, galleries, gallery_of
from dml_bench.retrieval.scatter import scatter_figure

Draw = Callable[[Section, Path | None, Sequence[str]], Mapping[str, bytes]]


def shown(
    records: Sequence[RunRecord], data_root: Path | None = None, tell: Tell = lambda line: None
) -> Iterator[tuple[str, bytes]]:
    """Draw those that apply, as PNG and SVG; ``tell`` hears why one is missing. See ``galleries``."""
    from dml_bench.reports.plots import stem  # matplotlib

    yield from galleries(records, data_root, tell)
    found = sections(records)
    for section in found:
        try:
            for end, content in _scatter(section, data_root, ("png", "svg")).items():
                yield f"{stem('scatter', section, found)}.{end}", content
        except DmlBenchError as error:
            tell(f"No scatter of {section.dataset}: {str(error).splitlines()[0]}")


def one(kind: str, found: Sequence[Section], end: str, data_root: Path | None = None) -> bytes:
    """Draw one picture of ``DRAWN``; ``end`` is png, svg or pdf.

    Raises:
        ResultsError: where it does not apply, or there are several data sets or protocols.
        DataError: if the data is not there.
    """
    from dml_bench.reports.plots.chosen import only

    files = DRAWN[kind](only(kind, found), data_root, [end])
    if not files:
        raise ResultsError(f"'{kind}' does not apply to these runs: it needs {NEEDS[kind]}")
    return files[end]


def _gallery(section: Section, data_root: Path | None, kinds: Sequence[str]) -> Mapping[str, bytes]:
    from dml_bench.reports.plots.gallery import drawn_gallery

    gallery = gallery_of(section, data_root)
    return drawn_gallery(gallery, kinds) if gallery else {}


def _scatter(section: Section, data_root: Path | None, kinds: Sequence[str]) -> Mapping[str, bytes]:
    from dml_bench.reports.plots.canvas import rendered

    return rendered(partial(scatter_figure, [run for row in section.rows for run in row.runs], data_root), kinds)


DRAWN: Mapping[str, Draw] = {"gallery": _gallery, "scatter": _scatter}
NEEDS = {
    "gallery": "a run that finished, on images",
    "scatter": "a trained run with embeddings of two dimensions",
}
