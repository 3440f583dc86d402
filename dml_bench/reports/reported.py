"""Our rows beside the ledger: the tables ``reported.csv`` and ``reported.md`` of a report."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from dml_bench.evaluation.scores import as_csv
from dml_bench.reports.ledger import Figure, datasets
from dml_bench.reports.markdown import escape, markdown_table
from dml_bench.reports.standings import Standings
from dml_bench.reports.summary import Row, Section, sections
from dml_bench.reports.verdicts import WIDEST, Comparison, Ours, compare_with_reported, conditions_of
from dml_bench.results.record import RunRecord

COLUMNS = (
    *("dataset", "protocol_id", "recipe_id", "loss", "options", "metric", "seeds", "mean", "low", "high"),
    *("reported", "deviation", "z", "verdict", "differs", "unknown", "method", "backbone", "dim", "batch", "crop"),
    *("selection", "split", "second_hand", "setting", "conditions", "source"),
)
SHOWN = ("loss", "metric", "ours", "reported", "deviation", "z", "verdict", "method", "source")
EXPLANATION = (
    "Our mean with its 95 % interval, as in the comparison, in percent, beside published figures. z is the deviation "
    "in standard errors, half of the interval being 1.96 of them. 'reproduced': all conditions that count are stated "
    "and equal, and the figure lies in the interval; with a condition unknown it is 'consistent' at most, and "
    f"'too uncertain' with an interval of more than ± {100 * WIDEST:.0f} points. With one seed there is no "
    "claim. Options of the loss and the length of training are not compared."
)


def reported_tables(records: Sequence[RunRecord]) -> dict[str, str]:
    """Return ``reported.csv`` (percent, every column) and ``reported.md`` (what is said of each row).

    Raises:
        ResultsError: when two different records claim to be the same run.
    """
    compared = [pair for section in sections(records) for pair in beside_reported(section)]
    lines = [_line(row, comparison) for row, found in compared for comparison in found]
    return {"reported.csv": as_csv(COLUMNS, lines), "reported.md": _page(compared)}


def beside_reported(section: Section) -> list[tuple[Row, list[Comparison]]]:
    """Set every trained row of a section beside the figures of the ledger, the closest by its conditions first."""
    return [
        (row, compare_with_reported(ours))
        for row, ours in zip(section.rows, _ours(section), strict=True)
        if not row.is_reference and row.finished
    ]


def _ours(section: Section) -> list[list[Ours]]:
    """Return our numbers by row, those of the comparison."""
    found: list[list[Ours]] = [[] for _ in section.rows]
    for metric in section.metrics if section.dataset in datasets() else ():
        for row, ours, known in zip(section.rows, found, Standings(section, metric).estimates, strict=True):
            if row.finished and known.seeds:
                interval = (known.mean, known.low, known.high, known.half, known.seeds)
                ours.append(Ours(section.dataset, row.loss, metric, *interval, conditions_of(row.finished[0])))
    return found


def _line(row: Row, comparison: Comparison) -> list[str]:
    ours, figure = comparison.ours, comparison.figure
    shares = [_percent(value, 4) for value in (ours.mean, ours.low, ours.high)]
    return [
        *(ours.dataset, row.runs[0].protocol_id, row.runs[0].recipe_id, ours.loss, row.options, ours.metric),
        *(str(ours.seeds), *shares, figure.value, _percent(comparison.deviation, 4), _number(comparison.z)),
        *(comparison.verdict, "; ".join(comparison.differs), "; ".join(comparison.unknown)),
        *(figure.method, figure.backbone, figure.dim, figure.batch, figure.crop, figure.selection, figure.split),
        *("yes" if figure.second_hand else "no", figure.setting, figure.conditions, figure.source),
    ]


def _page(compared: Sequence[tuple[Row, Sequence[Comparison]]]) -> str:
    blocks = ["# Reported and measured\n", EXPLANATION + "\n"]
    silent = sorted({row.loss for row, found in compared if not found})
    groups: dict[tuple[str, str], list[tuple[Row, Comparison]]] = defaultdict(list)
    for row, found in compared:
        groups[row.runs[0].dataset, row.runs[0].protocol_id] += [(row, comparison) for comparison in found]
    for (dataset, protocol), pairs in groups.items():
        if pairs:
            blocks += [f"## {escape(dataset)}: protocol {protocol}\n", "The closest figure, by its conditions:\n"]
            blocks += [_table(closest(pairs)), "Every figure:\n", _table(pairs)]
    if silent:
        blocks.append(f"The ledger has no figure of {escape(', '.join(silent))} on these data sets and metrics.\n")
    return "\n".join(blocks)


def closest(pairs: Iterable[tuple[Row, Comparison]]) -> list[tuple[Row, Comparison]]:
    """Return the first comparison of each row and metric, in which the fewest conditions differ or are unknown."""
    first: dict[tuple[str, str], tuple[Row, Comparison]] = {}
    for row, comparison in pairs:
        first.setdefault((row.runs[0].recipe_id, comparison.ours.metric), (row, comparison))
    return list(first.values())


def _table(pairs: Sequence[tuple[Row, Comparison]]) -> str:
    lines = [reported_cells(row, comparison) for row, comparison in pairs]
    return markdown_table(SHOWN, lines, ("ours", "reported", "deviation", "z"))


def reported_cells(row: Row, comparison: Comparison) -> list[str]:
    """Write the cells of ``SHOWN``."""
    ours, figure = comparison.ours, comparison.figure
    interval = "" if math.isnan(ours.low) else f" [{_percent(ours.low)}, {_percent(ours.high)}]"
    name = ", ".join(filter(None, (f"{ours.loss}", row.options, f"recipe {row.runs[0].recipe_id}")))
    return [
        *(name, ours.metric, f"{_percent(ours.mean)}{interval} n={ours.seeds}", figure.value),
        *(f"{100 * comparison.deviation:+.1f}", _number(comparison.z, "+.1f"), comparison.verdict, figure.method),
        _source(figure),
    ]


def _source(figure: Figure) -> str:
    quoted = figure.second_hand and "second-hand" not in figure.source
    return figure.source + (" - second-hand" if quoted else "")


def _percent(share: float, decimals: int = 1) -> str:
    return "" if math.isnan(share) else f"{100 * share:.{decimals}f}"


def _number(value: float, form: str = ".3f") -> str:
    return "" if math.isnan(value) else f"{value:{form}}"
