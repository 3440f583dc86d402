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


@dataclass(frozen=True)
class Shown:
    """One picture: ``source`` is its content as a URI, ``alt`` what it is for those who do not see it."""

    title: str
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
        title = _title(stem if at is None or len(found) == 1 else stem.removesuffix(_suffix(found[at])))
        section = None if at is None else found[at]
        (elsewhere if at is None else beside[at]).append(Shown(title, source, _alt(title, section)))
    return beside, elsewhere


def _section(stem: str, found: Sequence[Section]) -> int | None:
    if len(found) == 1:
        return 0
    return next((i for i, section in enumerate(found) if stem.endswith(_suffix(section))), None)


def _suffix(section: Section) -> str:
    return re.sub(r"[^\w.-]", "_", f"-{section.dataset}-{section.protocol_id}")


def _title(stem: str) -> str:
    words = " ".join(re.split(r"[_\s]+", stem)).strip()
    return words[:1].upper() + words[1:]


def _alt(title: str, section: Section | None) -> str:
    """Say what a picture is of, what comes out best, and where its numbers are."""
    if section is None:
        return f"{title}."
    trained = [row for row in section.rows if not row.is_reference and row.finished]
    text = f"{title} of {len(section.rows)} rows on {section.dataset}, protocol {section.protocol_id}."
    metric = section.ranked_by
    if trained and metric:
        scale, best = scale_of(metric), trained[0]
        [value] = scale.texts([best.mean(metric)], scale.decimals([best.mean(metric)]))
        text += f" First by {metric}: {' '.join(filter(None, (best.loss, best.options)))} with {value}."
    return f"{text} The table above has the numbers."
