"""A metric against how hard the training part was made: long tails, few images, wrong labels."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from dml_bench.recipe.identity import APART
from dml_bench.reports.plots.canvas import Looks, sure
from dml_bench.reports.plots.sweeps import Line, drawn, is_number, line, protocol_of
from dml_bench.reports.standings import Standings
from dml_bench.reports.summary import Row, Section, ranking_metric
from dml_bench.reports.where import flat

WHOLE: Mapping[str, float] = {"factor": 1.0, "rate": 0.0, "fraction": 1.0, "images_per_class": math.inf}
"""Options of a subset to the value at which it is the whole training part, unchanged."""


def subset_sweep(sections: Sequence[Section], look: Looks) -> Figure | None:
    """Draw the leading metric against each number of a subset, one line per loss and its options.

    A subset makes another training part and so another protocol, and numbers of different protocols are never ranked
    together. This picture joins runs that are alike in all else and were measured on a test part of the same size; the
    whole training part is the mildest subset. Recipes that take several subsets, one after the other, are left out.
    None without two such protocols.
    """
    metric = ranking_metric([row for section in sections for row in section.rows])
    found = _lines(row for section in sections for row in section.rows if row.finished and not row.is_reference)
    if not found or not metric:
        return None
    shown = {protocol_of(row) for lines in found.values() for line in lines for row in line.rows}
    stands = [Standings(section, metric) for section in sections if protocol_of(section.rows[0]) in shown]
    certain = sure([known for stand in stands for known in stand.estimates])
    head = f"{metric} of {len(stands)} protocols that differ in the training part alone, and are not ranked\n{certain}"
    return drawn(stands, found, look, head)


def _lines(rows: Iterable[Row]) -> dict[str, list[Line]]:
    """Return by what is varied the lines of two values or more."""
    whole: dict[Any, Row] = {}
    parts: dict[Any, dict[float, Row]] = defaultdict(dict)
    for row in rows:
        subsets = row.runs[0].recipe.get("subset") or []
        if not subsets:
            whole.setdefault(_alike(row), row)
        elif len(subsets) == 1:
            for option, value in subsets[0].items():
                if is_number(value) and option != "seed":
                    others = frozenset((key, repr(of)) for key, of in subsets[0].items() if key != option)
                    name = f"{option} of {subsets[0]['name']} on {row.runs[0].dataset}"
                    parts[name, option, others, _alike(row)].setdefault(float(value), row)
    found: dict[str, list[Line]] = defaultdict(list)
    for (name, option, _, alike), values in parts.items():
        if alike in whole and option in WHOLE:
            values.setdefault(WHOLE[option], whole[alike])
        if len(values) > 1:
            first = whole.get(alike) or values[min(values)]
            found[name].append(line(values, _options(first), first.key))
    return found


def _alike(row: Row) -> tuple[Any, ...]:
    """Return what two rows of a line have in common: all but the training part."""
    run = row.runs[0]
    recipe = {key: value for key, value in run.recipe.items() if key not in (*APART, "subset")}
    measured = repr((run.data.get("test"), run.data.get("queries")))
    return run.dataset, run.loss, row.backbone, row.embedding_dim, measured, frozenset(map(repr, flat(recipe)))


def _options(row: Row) -> dict[str, Any]:
    """Return what sets a line apart, as recipes say it, without the subset."""
    options = {key: value for key, value in row.runs[0].options.items() if key.partition("[")[0] != "subset"}
    return {key: value for key, value in flat(options) if not key.endswith(".name")}
