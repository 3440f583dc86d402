"""Every picture of a report, as one function from a section to a figure. The only room that imports matplotlib."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from matplotlib.figure import Figure

from dml_bench.reports.plots.canvas import Looks, rendered
from dml_bench.reports.plots.centers import centers_histogram
from dml_bench.reports.plots.confusion import confusion
from dml_bench.reports.plots.dots import metric_dots
from dml_bench.reports.plots.maps import embedding_map
from dml_bench.reports.plots.recall import recall_curves
from dml_bench.reports.plots.training import training_curves
from dml_bench.reports.style import looks
from dml_bench.reports.summary import Section, sections
from dml_bench.results.record import RunRecord

Picture = Callable[[Section, Looks], Figure | None]

PICTURES: Mapping[str, Picture] = {
    "recall_curves": recall_curves,
    "metrics": metric_dots,
    "training_curves": training_curves,
    "centers": centers_histogram,
    "confusion": confusion,
    "map": embedding_map,
}
"""File name to drawing function: the place to add a picture."""


def draw(records: Sequence[RunRecord]) -> Iterator[tuple[str, bytes]]:
    """Draw every picture that applies, as PNG and SVG; the same records give the same bytes.

    Yields:
        File name and content. Names carry data set and protocol when the records hold more than one of these.

    Raises:
        ResultsError: when two different records claim to be the same run.
    """
    found = sections(records)
    look = looks(found)
    for section in found:
        suffix = f"-{section.dataset}-{section.protocol_id}" if len(found) > 1 else ""
        for name, picture in PICTURES.items():
            stem = re.sub(r"[^\w.-]", "_", name + suffix)
            for kind, content in rendered(partial(picture, section, look)).items():
                yield f"{stem}.{kind}", content
