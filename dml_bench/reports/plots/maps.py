"""Maps of the test embeddings in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dml_bench.reports.embedded import Embedded, Floats, Rows, best_embedded, first_embedded
from dml_bench.reports.measured import per_query
from dml_bench.reports.plots.canvas import NARROW, Looks, named, title
from dml_bench.reports.style import COLORS, MARKERS
from dml_bench.reports.summary import Row, Section

LETTERS = 20
CLASSES = 10
"""Classes that are told apart."""
POINTS = 1500
"""Points of a map; t-SNE takes some seconds for as many."""
GREY = "#CCCCCC"


def embedding_map(section: Section, look: Looks) -> Figure | None:
    """Draw test embeddings by PCA and t-SNE: of the best row, one to compare it with, and a reference.

    One seed of each. Up to ten classes are told apart by colour and marker: all, or some between the worst and the
    best by recall@1 of the best row. None where no row kept embeddings of three items.
    """
    best = best_embedded(section.rows)
    where = first_embedded(best) if best else None
    if best is None or where is None or len(where.labels) < 3:
        return None
    classes = _classes(best, where)
    label = {row.key: text for row, text in named(section, NARROW)}
    found = [(row, where) for row in _shown(section, best) if (where := first_embedded(row))]
    figure = Figure(figsize=(max(7.5, 3.3 * len(found)), 7.6), layout="constrained")
    panels = figure.subplots(2, len(found), squeeze=False)
    for (above, below), (row, where) in zip(panels.T, found, strict=True):
        chosen = sample(where.labels, classes)
        plane, share = pca(where.vectors[chosen])
        _points(above, plane, where.labels[chosen], classes)
        _points(below, tsne(where.vectors[chosen], plane), where.labels[chosen], classes)
        above.set_title(f"{label[row.key]}\nPCA: {100 * share:.0f} % of the variance", loc="left", fontsize=8)
        below.set_title("t-SNE", loc="left", fontsize=8)
    handles, legend = _legend(classes, where), f"test class{where.counted}"
    across = 6 if max(len(str(handle.get_label())) for handle in handles) <= 9 else 4
    figure.legend(handles=handles, loc="outside lower center", ncols=across, title=legend)
    figure.suptitle(title(section, _note(where, classes)), fontsize=9)
    return figure


def pca(vectors: Floats) -> tuple[Floats, float]:
    """Return the coordinates ``(N, 2)`` on the two axes of most variance, and their share of all variance.

    The sign of an axis is such that its largest coordinate is positive.
    """
    from sklearn.decomposition import PCA  # slow to import

    total = float(vectors.var(axis=0).sum())
    if total == 0:
        return np.zeros((len(vectors), 2)), 1.0
    solver = "full" if min(vectors.shape) <= 512 else "arpack"  # both exact; the second is fast for raw pixels
    count = min(2, *vectors.shape)
    plane = PCA(count, svd_solver=solver, random_state=0).fit_transform(vectors)
    plane = np.pad(plane, ((0, 0), (0, 2 - count)))
    plane *= np.where(np.take_along_axis(plane, np.abs(plane).argmax(axis=0)[None], axis=0) < 0, -1, 1)
    return plane, float(plane.var(axis=0).sum()) / total


def tsne(vectors: Floats, start: Floats) -> Floats:
    """Return a map ``(N, 2)`` of N >= 3 vectors that begins from ``start``, the same on any number of threads."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    spread = start[:, 0].std() or 1.0
    options: dict[str, Any] = {
        "perplexity": min(30.0, max(1.0, (len(vectors) - 1) / 3)),
        "random_state": 0,
        "n_jobs": 1,
    }
    with threadpool_limits(1):
        found: Floats = TSNE(init=(start / spread * 1e-4).astype(np.float32), **options).fit_transform(vectors)
    return found.astype(np.float64)


def sample(labels: Rows, classes: Sequence[int]) -> Rows:
    """Return at most ``POINTS`` rows, evenly spaced: of ``classes``, for up to half of them, and of the others."""
    inside = np.flatnonzero(np.isin(labels, classes))
    outside = np.flatnonzero(~np.isin(labels, classes))
    few = max(POINTS // 2, POINTS - len(outside))
    return np.sort(np.concatenate([_evenly(inside, few), _evenly(outside, POINTS - min(few, len(inside)))]))


def _classes(best: Row, where: Embedded) -> list[int]:
    """Return up to ``CLASSES`` classes, evenly spaced between those found worst and best by the row's first seed."""
    values = next((values for run in best.finished if (values := per_query(run))), {})
    classes = np.unique(where.labels)
    hits = {} if "first_hit_rank" not in values else _shares(values["label"], values["first_hit_rank"] == 1)
    ordered = sorted(classes.tolist(), key=lambda label: (hits.get(label, 0.0), label))
    return sorted(_evenly(np.array(ordered), CLASSES).tolist())


def _shares(labels: Rows, hits: npt.NDArray[np.bool_]) -> dict[int, float]:
    return {int(label): float(hits[labels == label].mean()) for label in np.unique(labels)}


def _evenly(rows: Rows, count: int) -> Rows:
    """Return at most ``count`` of the rows, from the first to the last."""
    return rows[np.linspace(0, len(rows) - 1, count).round().astype(int)] if len(rows) > count else rows


def _shown(section: Section, best: Row) -> list[Row]:
    """Return the best row, NormSoftmax or else the second best, and a reference, of those that kept embeddings."""
    kept = [row for row in section.rows if row is not best and best_embedded([row])]
    losses = sorted((row for row in kept if not row.is_reference), key=lambda row: row.loss != "norm_softmax")
    return [best, *losses[:1], *[row for row in kept if row.is_reference][:1]]


def _points(axes: Axes, plane: Floats, labels: Rows, classes: Sequence[int]) -> None:
    others = ~np.isin(labels, classes)
    axes.scatter(plane[others, 0], plane[others, 1], s=3, color=GREY, linewidths=0, rasterized=True)
    for i, label in enumerate(classes):
        x, y = plane[labels == label].T
        axes.scatter(x, y, s=13, rasterized=True, **class_style(i))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color="#BBBBBB")
    axes.set_aspect("equal", adjustable="datalim")


def class_style(i: int) -> dict[str, Any]:
    """Return how the i-th class looks; colours come again after eight classes, markers do not."""
    return {"marker": MARKERS[i], "color": COLORS[i % len(COLORS)], "edgecolors": "white", "linewidths": 0.3}


def class_handle(i: int, name: str) -> Line2D:
    """Return the legend's entry for the i-th class."""
    return _handle(name, MARKERS[i], COLORS[i % len(COLORS)])


def _legend(classes: Sequence[int], where: Embedded) -> list[Line2D]:
    others = [_handle("others", ".", GREY)] if len(np.unique(where.labels)) > len(classes) else []
    return [class_handle(i, where.name(label, LETTERS)) for i, label in enumerate(classes)] + others


def _handle(name: str, marker: str, color: str) -> Line2D:
    return Line2D([], [], linestyle="none", markersize=5.5, label=name, marker=marker, color=color)


def _note(where: Embedded, classes: Sequence[int]) -> str:
    items, total = min(POINTS, len(where.labels)), len(np.unique(where.labels))
    some = f"{len(classes)} of {total} classes told apart, from the worst found to the best" if total > CLASSES else ""
    counts = ", ".join(filter(None, (f"{items:,} of {len(where.labels):,} test embeddings of one seed", some)))
    return f"{counts}\nDistances between the groups of t-SNE, and their sizes, mean nothing"
