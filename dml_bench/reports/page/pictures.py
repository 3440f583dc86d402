"""Pictures in the page itself, as images whose scripts, if they had any, could not run."""

from __future__ import annotations

import base64
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from dml_bench.errors import ResultsError
from dml_bench.reports.scales import scale_of
from dml_bench.reports.summary import Section

KINDS = {"png": "image/png", "svg": "image/svg+xml", "jpg": "image/jpeg", "webp": "image/webp"}

CAPTIONS = {
    "recall": "Recall@k against k, a line per row, with bars of one standard deviation over seeds: the higher a line "
    "lies, the better.",
    "dots": "A panel per metric, a line per row: the marker is the mean, the bar its 95 percent interval, and shaded "
    "rows are not told apart from the best.",
    "wins": "Every pair of trained rows: the row's value minus the column's, dark where the row is better, pale where "
    "it is worse, white where the two are not told apart.",
    "pareto": "The leading metric against training time: no row is both faster and better than those on the stepped "
    "line; level bars reach from the fastest seed to the slowest.",
    "training": "Training loss by epoch, a panel per row with a scale of its own: see whether a line has become flat, "
    "not how high it lies.",
    "centers": "How many centers of a class remain once those that lie close together are merged: the further to the "
    "right the bars, the more centers survive.",
    "centers-sweep": "The leading metric against the number of centers per class, with the regularizer and without: "
    "where a line is flat, more centers change nothing.",
    "sweep": "The leading metric against one option, all else the same along a line: where a line is flat, the option "
    "hardly matters.",
    "classes": "The leading metric of single classes, from each row's worst on the left to its best on the right: the "
    "flatter a line, the more evenly the row serves the classes.",
    "confusion": "Which class lies nearest to the queries of a class, by the best row: a line is the queries' class, a "
    "column the neighbors', and what is off the diagonal is wrong.",
    "map": "Test embeddings drawn in two dimensions, by PCA above and t-SNE below: a class that is told apart is a "
    "cluster of one color and marker; how far t-SNE puts clusters apart means little.",
    "gallery": "Queries on the left and what lies nearest to them on the right: a solid frame and a tick are right, a "
    "dashed frame and a cross are wrong.",
    "scatter": "Training images embedded in two dimensions, as they are, and the directions of their class centers as "
    "lines: the narrower a class lies about its line, the closer it keeps to its center.",
    "critical-difference": "Mean ranks of the losses over data sets, 1 being the best: a bar joins losses that are not "
    "told apart.",
    "subset-sweep": "The leading metric against how hard the training part was made, by long tails, few images or "
    "wrong labels: the flatter a line, the less the loss suffers.",
}
"""What each kind of picture shows and how to read it; other pictures have their names."""


@dataclass(frozen=True)
class Shown:
    """One picture.

    Attributes:
        title: its kind, as words.
        caption: what it shows and how to read it.
        source: its content as a URI.
        alt: what it is for those who do not see it.
    """

    title: str
    caption: str
    source: str
    alt: str


def shown(pictures: Mapping[str, bytes], found: Sequence[Section]) -> tuple[list[list[Shown]], list[Shown]]:
    """Return the pictures of each section, and those that belong to none.

    Args:
        pictures: file name to content; a name that ends in data set and protocol is a picture of that section, and one
            that ends in neither of the only section, if there is one.
        found: the sections.

    Raises:
        ResultsError: if a picture is of another kind than ``KINDS``.
    """
    kinds: dict[str, dict[str, bytes]] = defaultdict(dict)
    for name, content in pictures.items():
        kind = PurePath(name).suffix[1:]
        if kind not in KINDS:
            raise ResultsError(f"{name}: a page shows pictures of the kinds {', '.join(KINDS)}")
        kinds[PurePath(name).stem][kind] = content
    beside: list[list[Shown]] = [[] for _ in found]
    elsewhere: list[Shown] = []
    for stem, contents in kinds.items():
        kind = min(contents, key=lambda kind: len(contents[kind]))
        source = f"data:{KINDS[kind]};base64,{base64.b64encode(contents[kind]).decode()}"
        at = _section(stem, found)
        name = stem if at is None or len(found) == 1 else stem.removesuffix(_suffix(found[at]))
        title = _title(name)
        caption = CAPTIONS.get(name, title)
        alt = _alt(caption, found if at is None else [found[at]])
        (elsewhere if at is None else beside[at]).append(Shown(title, caption, source, alt))
    return beside, elsewhere


def _section(stem: str, found: Sequence[Section]) -> int | None:
    if len(found) == 1:
        return 0
    return next((i for i, section in enumerate(found) if stem.endswith(_suffix(section))), None)


def _suffix(section: Section) -> str:
    return re.sub(r"[^\w.-]", "_", f"-{section.dataset}-{section.protocol_id}")


def _title(stem: str) -> str:
    words = " ".join(re.split(r"[-_\s]+", stem)).strip()
    return words[:1].upper() + words[1:]


def _alt(caption: str, of: Sequence[Section]) -> str:
    """Say what a picture is of, what comes out best if it is of one section, and where its numbers are."""
    many = sum(len(section.rows) for section in of)
    text = f"{caption.removesuffix('.')}. {many} {'row' if many == 1 else 'rows'} on "
    if len(of) > 1:
        return f"{text}{', '.join(dict.fromkeys(section.dataset for section in of))}. The tables have the numbers."
    (section,) = of
    text += f"{section.dataset}, protocol {section.protocol_id}."
    trained = [row for row in section.rows if not row.is_reference and row.finished]
    metric = section.ranked_by
    if trained and metric:
        scale, best = scale_of(metric), trained[0]
        [value] = scale.texts([best.mean(metric)], scale.decimals([best.mean(metric)]))
        text += f" First by {metric}: {' '.join(filter(None, (best.loss, best.options)))} with {value}."
    return f"{text} The table above has the numbers."
