"""Embeddings of two dimensions as they are, with the directions of their classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dml_bench.reports.plots.canvas import TITLE_WIDTH
from dml_bench.reports.plots.maps import CLASSES, class_handle, class_style

ACROSS = 4


@dataclass(frozen=True, eq=False)
class Scatter:
    """One panel.

    Attributes:
        name: of the loss.
        embeddings: ``(N, 2)``, not normalised.
        labels: ``(N,)`` in [0, C).
        centers: ``(C, K, 2)``; K = 0 for a loss without centers.
        class_names: of the C classes.
    """

    name: str
    embeddings: npt.NDArray[Any]
    labels: npt.NDArray[np.int64]
    centers: npt.NDArray[Any]
    class_names: tuple[str, ...]

    @property
    def width(self) -> float:
        """The mean angle between an embedding and the mean direction of its class, in degrees."""
        directions = _unit(self.embeddings)
        means = np.stack([directions[self.labels == label].sum(axis=0) for label in range(len(self.class_names))])
        return _degrees(directions, _unit(means)[self.labels, None])

    @property
    def angle(self) -> float:
        """The mean angle between an embedding and the nearest center of its class, in degrees; nan without centers."""
        return _degrees(_unit(self.embeddings), _unit(self.centers)[self.labels]) if self.centers.size else math.nan


def scatter(panels: Sequence[Scatter], text: str) -> Figure | None:
    """Draw embeddings of training images, one panel per loss, with a line from the origin along each center.

    Of many classes, ten evenly spaced ones are drawn. None without a panel.

    Args:
        panels: what is drawn, of the same classes.
        text: the first line of the title.

    Source: Liu et al., Large-Margin Softmax Loss for Convolutional Neural Networks, ICML 2016, Fig. 2.
    """
    if not panels:
        return None
    names = panels[0].class_names
    classes = np.unique(np.linspace(0, len(names) - 1, CLASSES).round().astype(int)).tolist()
    across = min(ACROSS, len(panels))
    down = math.ceil(len(panels) / across)
    figure = Figure(figsize=(max(2.7 * across, TITLE_WIDTH), 3.2 * down + 0.9), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        _draw(axes, panel, classes)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    handles = [class_handle(i, _shortened(names[label])) for i, label in enumerate(classes)]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, title="training class")
    some = f" of {len(classes)} of {len(names)} classes" if len(classes) < len(names) else ""
    note = f"Embeddings of training images{some}, one seed; lines: directions of the centers; angles: means over images"
    figure.suptitle(f"{text}\n{note}", fontsize=9)
    return figure


def _draw(axes: Axes, panel: Scatter, classes: Sequence[int]) -> None:
    inside = np.isin(panel.labels, classes)
    reach = float(np.linalg.norm(panel.embeddings[inside], axis=1).max(initial=0)) or 1.0
    for i, label in enumerate(classes):
        for direction in _unit(panel.centers[label]):
            axes.plot(*(reach * np.stack([0 * direction, direction])).T, color="#777777", linewidth=0.8, zorder=1)
            x, y = 1.13 * reach * direction
            axes.text(x, y, _tip(panel, label), ha="center", va="center", fontsize=7.5)
        x, y = panel.embeddings[panel.labels == label].T
        axes.scatter(x, y, s=12, rasterized=True, **class_style(i))
    axes.set(xlim=(-1.25 * reach, 1.25 * reach), ylim=(-1.25 * reach, 1.25 * reach), xticks=[], yticks=[], aspect=1)
    axes.spines[:].set(visible=True, color="#BBBBBB")
    off = "" if math.isnan(panel.angle) else f", {panel.angle:.1f}° to center"
    axes.set_title(f"{panel.name}\n{panel.width:.1f}° to class mean{off}", fontsize=8, loc="left")


def _tip(panel: Scatter, label: int) -> str:
    """Return what stands at the end of a line: a short name, or else the number."""
    name = panel.class_names[label]
    return name if len(name) <= 3 else str(label)


def _degrees(directions: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> float:
    """Return the mean angle of directions ``(N, 2)`` and the nearest of ``(N, K, 2)`` others."""
    cosines = (directions[:, None] * others).sum(axis=2).max(axis=1)
    return float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).mean())


def _unit(vectors: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)
    unit: npt.NDArray[np.float64] = vectors / np.where(lengths == 0, 1.0, lengths)
    return unit


def _shortened(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"
