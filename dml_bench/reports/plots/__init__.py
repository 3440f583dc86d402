"""Every picture of a report, as one function from a section to a figure. The only room that imports matplotlib."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial

from matplotlib.figure import Figure

from dml_bench.reports.plots.canvas import KINDS, Looks, rendered
from dml_bench.reports.plots.centers import centers_histogram
from dml_bench.reports.plots.classes import class_recall
from dml_bench.reports.plots.confusion import confusion
from dml_bench.reports.plots.cost import pareto
from dml_bench.reports.plots.dots import metric_dots
from dml_bench.reports.plots.maps import embedding_map
from dml_bench.reports.plots.ranks import critical_difference
from dml_bench.reports.plots.recall import recall_curves
from dml_bench.reports.plots.subsets import subset_sweep
from dml_bench.reports.plots.sweeps import centers_sweep, option_sweep
from dml_bench.reports.plots.training import training_curves
from dml_bench.reports.plots.wins import win_matrix
from dml_bench.reports.style import looks
from dml_bench.reports.summary import Section, sections
from dml_bench.results.record import RunRecord

Picture = Callable[[Section, Looks], Figure | None]
Wide = Callable[[Sequence[Section], Looks], Figure | None]

PICTURES: Mapping[str, Picture] = {
    "recall": recall_curves,
    "dots": metric_dots,
    "wins": win_matrix,
    "pareto": pareto,
    "training": training_curves,
    "centers": centers_histogram,
    "centers-sweep": centers_sweep,
    "sweep": option_sweep,
    "classes": class_recall,
    "confusion": confusion,
    "map": embedding_map,
}
"""Kind, which is also the file's name, to drawing function of one data set and protocol: the place to add a picture."""

ACROSS: Mapping[str, Wide] = {
    "critical-difference": critical_difference,
    "subset-sweep": subset_sweep,
}
"""The same of pictures that show several data sets or protocols at once."""

NEEDS: Mapping[str, str] = {
    "recall": "recall@k for two values of k",
    "dots": "a run that finished and was measured",
    "wins": "two trained losses, each with several seeds and values per query (per_query.npz)",
    "pareto": "two trained losses of which the training time is known",
    "training": "a training curve",
    "centers": "a loss with several centers per class that finished",
    "centers-sweep": "one loss with several values of centers_per_class, all else the same",
    "sweep": "one loss with three values of a number, all else the same",
    "classes": "values per query (per_query.npz) of two classes",
    "confusion": "embeddings (embeddings.npz) of a run whose nearest neighbors are wrong at times",
    "map": "embeddings (embeddings.npz) of three items or more",
    "critical-difference": "two data sets, each under one protocol, with three losses (and options) in common, and a "
    "metric that is read off single queries, as nmi, which k-means alone moves by points, ranks nothing",
    "subset-sweep": "a loss trained on a subset, and alike in all else on another or on the whole training part",
}
"""What a picture shows, without which there is none."""

EXTRA = ("gallery", "scatter")
"""Pictures that are drawn elsewhere, as they take the data or the networks."""

OLD = ("recall_curves", "metrics", "training_curves")
"""What pictures were called."""


def draw(records: Sequence[RunRecord], kinds: Collection[str] | None = None) -> Iterator[tuple[str, bytes]]:
    """Draw every picture that applies, as PNG and SVG; the same records give the same bytes.

    Args:
        records: the runs.
        kinds: which to draw, of ``PICTURES`` and ``ACROSS``; all if it is None.

    Yields:
        File name and content. Names carry data set and protocol when the records hold more than one of these.

    Raises:
        ResultsError: when two different records claim to be the same run.
    """
    found = sections(records)
    look = looks(found)
    for section in found:
        for kind, picture in PICTURES.items():
            if kinds is None or kind in kinds:
                yield from _files(stem(kind, section, found), partial(picture, section, look))
    for kind, wide in ACROSS.items():
        if kinds is None or kind in kinds:
            yield from _files(kind, partial(wide, found, look))


def stem(kind: str, section: Section, found: Sequence[Section]) -> str:
    """Return the name of a picture's file, which tells data set and protocol where there are several."""
    suffix = f"-{section.dataset}-{section.protocol_id}" if len(found) > 1 else ""
    return re.sub(r"[^\w.-]", "_", kind + suffix)


def may_be_stale(name: str) -> bool:
    """Tell whether a file of this name may be a picture of an earlier report, of one data set or of several."""
    kinds = "|".join(map(re.escape, (*PICTURES, *ACROSS, *EXTRA, *OLD)))
    return bool(re.fullmatch(rf"({kinds})(-.+-[0-9a-f]{{12}})?\.(png|svg)", name))


def _files(name: str, picture: Callable[[], Figure | None]) -> Iterator[tuple[str, bytes]]:
    for kind, content in rendered(picture, KINDS[:2]).items():
        yield f"{name}.{kind}", content
