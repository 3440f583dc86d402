"""One picture by its kind, as ``dml-bench plot`` draws it, or why it cannot be drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from matplotlib.figure import Figure

from dml_bench.errors import DmlBenchError, ResultsError
from dml_bench.evaluation.scores import SPREAD
from dml_bench.registry import suggestion
from dml_bench.reports.plots import ACROSS, EXTRA, NEEDS, PICTURES
from dml_bench.reports.plots.canvas import KINDS, Looks, rendered
from dml_bench.reports.style import looks
from dml_bench.reports.summary import Section, sections
from dml_bench.results.record import RunRecord


def drawn(kind: str, records: Sequence[RunRecord], end: str, metric: str = "", loss: str = "") -> bytes:
    """Draw one picture.

    Args:
        kind: one of ``PICTURES`` or ``ACROSS``.
        records: of one data set and protocol, unless the picture is across several.
        end: of the file's name, one of ``KINDS``.
        metric: the one to show, by which rows are ordered; the picture's own choice if empty.
        loss: a loss or recipe id; rows of others are left out if it is given.

    Raises:
        DmlBenchError: for an unknown kind, end, metric or loss.
        ResultsError: where the picture does not apply, or there are several data sets or protocols to choose from.
    """
    check_kind(kind)
    kept, look = chosen(records, end, metric, loss)
    picture: Callable[[], Figure | None]
    picture = partial(ACROSS[kind], kept, look) if kind in ACROSS else partial(PICTURES[kind], only(kind, kept), look)
    files = rendered(picture, [end])
    if not files:
        of = f" of {metric}" * bool(metric) + f" of {loss}" * bool(loss)
        raise ResultsError(f"'{kind}' does not apply to these runs{of}: it needs {NEEDS[kind]}")
    return files[end]


def check_kind(kind: str) -> None:
    """Refuse an unknown kind of picture.

    Raises:
        DmlBenchError: with the kinds there are.
    """
    known = (*PICTURES, *ACROSS, *EXTRA)
    if kind not in known:
        raise DmlBenchError(f"no kind of picture named '{kind}'{suggestion(kind, known)}; known: {', '.join(known)}")


def chosen(records: Sequence[RunRecord], end: str, metric: str = "", loss: str = "") -> tuple[list[Section], Looks]:
    """Return the rows that a picture shows, and their looks, which rows that are left out do not change.

    Raises:
        DmlBenchError: for an unknown end, metric or loss.
    """
    if end not in KINDS:
        raise DmlBenchError(f"a picture's file must end in {', '.join(f'.{name}' for name in KINDS)}, not in '.{end}'")
    found = sections(_by(metric, records) if metric else records)
    kept = [_only(loss, section) for section in found] if loss else found
    kept = [section for section in kept if section.rows]
    if not kept:
        losses = sorted({row.loss for section in found for row in section.rows})
        raise DmlBenchError(f"--loss {loss}: no run has it{suggestion(loss, losses)}; they have {', '.join(losses)}")
    return kept, looks(found)


def only(kind: str, found: Sequence[Section]) -> Section:
    """Return the section if there is one.

    Raises:
        ResultsError: naming all of them, if there are several.
    """
    if len(found) > 1:
        lines = "".join(f"\n  --where dataset={s.dataset} --where protocol_id={s.protocol_id}" for s in found)
        raise ResultsError(f"'{kind}' shows one data set under one protocol; choose one of the {len(found)}:{lines}")
    return found[0]


def _by(metric: str, records: Sequence[RunRecord]) -> list[RunRecord]:
    """Leave runs no metric but one, so that rows are ordered by it and pictures show it."""
    known = list(dict.fromkeys(name for section in sections(records) for name in section.metrics))
    if metric not in known:
        raise DmlBenchError(
            f"--metric {metric}: no run has it{suggestion(metric, known)}; they have {', '.join(known) or 'none'}"
        )
    kept = (metric, metric + SPREAD)
    return [replace(run, metrics={name: run.metrics[name] for name in kept if name in run.metrics}) for run in records]


def _only(loss: str, section: Section) -> Section:
    return replace(section, rows=tuple(row for row in section.rows if loss in (row.loss, row.runs[0].recipe_id)))
