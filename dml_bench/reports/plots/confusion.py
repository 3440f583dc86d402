"""Which classes are taken for which."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from dml_bench.reports.embedded import Embedded, Floats, Rows, best_embedded, embedded
from dml_bench.reports.plots.canvas import TITLE_WIDTH, WIDE, Looks, named, title
from dml_bench.reports.summary import Row, Section

CLASSES = 12
"""Classes of a matrix at most."""
LETTERS, UPRIGHT = 20, 5
"""Characters of a class's name, and of names that need not be turned."""


def confusion(section: Section, look: Looks) -> Figure | None:
    """Draw of the best row, class by class, whose items lie nearest to its queries, all seeds together.

    Of many classes those of the most confused pairs are shown. None where no row kept embeddings, and where
    there is nothing to confuse.
    """
    best = best_embedded(section.rows)
    if best is None:
        return None
    classes, counts, found = _counts(best)
    chosen = most_confused(counts)
    if len(chosen) < 2 or not counts.any():
        return None
    shares = counts[chosen] / np.maximum(counts[chosen].sum(axis=1, keepdims=True), 1)
    cells = shares[:, chosen]
    if left := len(classes) - len(chosen):
        cells = np.column_stack([cells, 1 - cells.sum(axis=1)])
    names = [found[0].name(label, LETTERS) for label in classes[chosen].tolist()]
    side = 0.46 * len(chosen) + 1.3 + 0.07 * max(map(len, names))
    figure = Figure(figsize=(max(TITLE_WIDTH, side), side + 0.6), layout="constrained")
    _matrix(figure.subplots(), cells, names, f"{left} others" if left else "")
    figure.supxlabel(f"class of the nearest neighbor{found[0].counted}", fontsize=9)
    label = {row.key: text for row, text in named(section, WIDE)}[best.key].replace("\n", "  ")
    which = f"the {len(chosen)} of {len(classes)} classes of the most confused pairs" if left else "all classes"
    note = f"{label}: class of the nearest neighbor, % of a class's queries\n{which}, {_said(len(found))}"
    figure.suptitle(title(section, note), fontsize=9)
    return figure


def most_confused(counts: npt.NDArray[np.int64]) -> Rows:
    """Return which rows of a matrix ``(C, C)`` to show: all of a few, else those of the pairs with most mistakes.

    A pair's mistakes are those of either class for the other; its classes stand side by side.
    """
    if len(counts) <= CLASSES:
        return np.arange(len(counts))
    mistakes = np.triu(counts + counts.T, 1)
    first, second = np.nonzero(mistakes)
    chosen: dict[int, None] = {}
    for i in np.argsort(-mistakes[first, second], kind="stable"):
        more = dict.fromkeys((int(first[i]), int(second[i])))
        if len(chosen | more) <= CLASSES:
            chosen |= more
    return np.array(list(chosen), dtype=np.int64)


def _counts(row: Row) -> tuple[Rows, npt.NDArray[np.int64], list[Embedded]]:
    """Return the classes, how many queries of one have an item of another nearest, ``(C, C)``, and the seeds.

    Queries without another item of their class are left out, as they are from recall@1.
    """
    found = [where for run in row.finished if (where := embedded(run))]
    classes = np.unique(np.concatenate([where.labels for where in found]))
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for where in found:
        codes = np.searchsorted(classes, where.labels)
        np.add.at(counts, (codes[where.asking], codes[where.nearest()]), 1)
    return classes, counts, found


def _matrix(axes: Axes, cells: Floats, classes: list[str], others: str) -> None:
    columns = [*classes, others] if others else classes
    axes.imshow(cells, cmap="Greys", norm=PowerNorm(0.5, 0, 1), aspect="equal")
    for (i, j), share in np.ndenumerate(cells):
        dark = "white" if share > 0.25 else "black"
        axes.text(j, i, _percent(share), ha="center", va="center", fontsize=7.5, color=dark)
    turned = max(map(len, classes)) > UPRIGHT
    axes.set_xticks(range(len(columns)), columns, rotation=90 if turned else 0)
    axes.set_yticks(range(len(classes)), classes)
    axes.set_ylabel("class of the query")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if others:
        axes.axvline(len(classes) - 0.5, color="black", linewidth=0.8)


def _percent(share: float) -> str:
    """Write a share so that nothing rounds to none, or to all."""
    if share in (0, 1):
        return "" if share == 0 else "100"
    text = f"{100 * share:.0f}"
    return {"0": "<1", "100": ">99"}.get(text, text)


def _said(seeds: int) -> str:
    return "one seed" if seeds == 1 else f"{seeds} seeds together"
