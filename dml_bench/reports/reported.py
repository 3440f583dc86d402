"""Our rows beside the ledger: the tables ``reported.csv`` and ``reported.md`` of a report."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from dml_bench.reports.ledger import Figure
from dml_bench.reports.markdown import csv_table, escape, markdown_table
from dml_bench.reports.scales import is_spread
from dml_bench.reports.summary import Row, sections
from dml_bench.reports.verdicts import Comparison, Ours, compare_with_reported, conditions_of
from dml_bench.results.record import RunRecord

COLUMNS = (
    *("dataset", "protocol_id", "recipe_id", "loss", "options", "metric", "seeds", "mean", "low", "high"),
    *("reported", "deviation", "z", "verdict", "differs", "unknown", "method", "backbone", "dim", "batch", "crop"),
    *("selection", "split", "second_hand", "setting", "conditions", "source"),
)
SHOWN = ("loss", "metric", "ours", "reported", "deviation", "z", "verdict", "method", "source")
EXPLANATION = (
    "Our mean with its 95 % interval over seeds, in percent, beside published figures. z is the deviation in standard "
    "errors, half of the interval being 1.96 of them. 'reproduced': all conditions that count are stated and equal, "
    "and the figure lies in the interval; with a condition unknown it is 'consistent' at most. With one seed there is "
    "no claim. Options of the loss and the length of training are not compared."
)

Interval = Callable[[Sequence[float]], tuple[float, float]]
"""From the values of the seeds, two at least, to the ends of a 95 % interval of their mean."""


def reported_tables(records: Sequence[RunRecord], interval: Interval | None = None) -> dict[str, str]:
    """Return ``reported.csv`` (percent, every column) and ``reported.md`` (what is said of each row).

    Args:
        records: the runs.
        interval: makes the interval; None takes Student's t over seeds.

    Raises:
        ResultsError: when two different records claim to be the same run.
    """
    compared = [(row, compare_with_reported(_ours(row, interval or t_interval))) for row in _rows(records)]
    lines = [_line(row, comparison) for row, found in compared for comparison in found]
    return {"reported.csv": csv_table(COLUMNS, lines), "reported.md": _page(compared)}


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of a mean by Student's t; of two values at least."""
    from scipy.stats import t  # here, as it takes a while to load

    mean, n = math.fsum(values) / len(values), len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(t.ppf(0.975, n - 1)) * deviation / math.sqrt(n)
    return mean - half, mean + half


def _rows(records: Sequence[RunRecord]) -> list[Row]:
    return [row for section in sections(records) for row in section.rows if not row.is_reference and row.finished]


def _ours(row: Row, interval: Interval) -> Iterator[Ours]:
    run = row.finished[0]
    for metric in run.metrics:
        values = [run.metrics[metric] for run in row.finished if metric in run.metrics]
        if is_spread(metric) or not values:
            continue
        low, high = interval(values) if len(values) > 1 else (math.nan, math.nan)
        mean = math.fsum(values) / len(values)
        yield Ours(run.dataset, run.loss, metric, mean, low, high, len(values), conditions_of(run))


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
            blocks += [_table(_closest(pairs)), "Every figure:\n", _table(pairs)]
    if silent:
        blocks.append(f"The ledger has no figure of {escape(', '.join(silent))} on these data sets and metrics.\n")
    return "\n".join(blocks)


def _closest(pairs: Sequence[tuple[Row, Comparison]]) -> list[tuple[Row, Comparison]]:
    """Return the first comparison of each row and metric, in which the fewest conditions differ or are unknown."""
    first: dict[tuple[str, str], tuple[Row, Comparison]] = {}
    for row, comparison in pairs:
        first.setdefault((row.runs[0].recipe_id, comparison.ours.metric), (row, comparison))
    return list(first.values())


def _table(pairs: Sequence[tuple[Row, Comparison]]) -> str:
    lines = [_shown(row, comparison) for row, comparison in pairs]
    return markdown_table(SHOWN, lines, ("ours", "reported", "deviation", "z"))


def _shown(row: Row, comparison: Comparison) -> list[str]:
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
