"""How a loss looks in every picture: its colour, marker and line, the text that names it, and the fonts around it."""

from __future__ import annotations

import hashlib
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dml_bench.reports.summary import Row, Section, natural

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#000000")
"""Okabe and Ito's colour-blind safe palette, with wine in place of yellow, which is lost on white paper."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "*", ">", "p", "d", "h")
RowKey = tuple[str, str, str, int]
LINES = ("-", "--", "-.", ":")
FILLS = ("full", "left", "right", "top", "bottom")
REFERENCE_COLOR = "#666666"
REFERENCE_MARKERS = {"raw_pixels": "s", "raw_features": "D", "untrained": "o"}

# A loss's place decides its look, so new names go to the end and none ever moves.
# fmt: off
LOSS_ORDER = (
    "softtriple", "norm_softmax", "am_softmax", "arcface", "proxy_nca", "proxy_nca_pp", "hardtriple", "contrastive",
    "triplet_batch_hard", "triplet_semihard", "multi_similarity", "softmax_ce", "w_softmax", "l2_softmax", "coco",
    "c_contrastive", "c_triplet", "ohem", "focal", "class_balanced", "nra", "center_dispersed", "unequal_training",
    "sv_softmax", "sv_am_softmax", "sv_arc_softmax", "l_softmax", "a_softmax", "af_softmax", "sm_softmax",
    "combined_margin", "adaptiveface", "uncertainty_softmax", "em_softmax", "uniformface", "uniform_loss", "affinity",
    "subcenter_arcface", "proxy_anchor", "triplet_all", "margin_loss", "quintuplet", "htl", "circle", "supcon",
    "npair", "smooth_ap", "recall_at_k",
)
# fmt: on

SETTINGS: dict[Any, Any] = {
    "font.size": 9,
    "font.family": ["DejaVu Sans", "sans-serif"],
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "svg.fonttype": "none",  # text stays text: searchable, and sharp at any size
    "svg.hashsalt": "dml_bench",  # the same records give the same bytes
    "savefig.dpi": 150,
}


@dataclass(frozen=True)
class Look:
    """Colour, marker and line style of a row, and which part of the marker is filled: ``none`` of a reference's."""

    color: str
    marker: str
    line: str
    fill: str = FILLS[0]


def looks(sections: Iterable[Section]) -> Mapping[RowKey, Look]:
    """Give every row its look by ``Row.key``: the loss decides colour and marker, its options fill and line.

    The same options of the same loss look alike in all sections.
    """
    variants: dict[str, set[RowKey]] = defaultdict(set)
    for section in sections:
        for row in section.rows:
            variants[row.loss].add(row.key)
    ordered = {loss: sorted(keys, key=lambda key: (natural(key[1]), key[2:])) for loss, keys in variants.items()}
    return {key: _look(loss, variant) for loss, keys in ordered.items() for variant, key in enumerate(keys)}


def labels(section: Section, width: int, lines: int) -> list[str]:
    """Name the rows of a section in at most ``lines`` lines of ``width`` characters each."""
    return [folded(row.loss, _details(row, section), width, lines) for row in section.rows]


def _look(loss: str, variant: int) -> Look:
    if loss in REFERENCE_MARKERS:
        place = list(REFERENCE_MARKERS).index(loss) + variant
        return Look(REFERENCE_COLOR, REFERENCE_MARKERS[loss], LINES[1 + place % 3], fill="none")
    place = LOSS_ORDER.index(loss) if loss in LOSS_ORDER else _hashed_place(loss)
    halves = len(FILLS) - 1
    fill = FILLS[1 + (variant - 1) % halves] if variant else FILLS[0]
    line = LINES[(place // len(MARKERS) + variant + (variant - 1) // halves * bool(variant)) % len(LINES)]
    return Look(COLORS[place % len(COLORS)], MARKERS[place % len(MARKERS)], line, fill)


def _hashed_place(loss: str) -> int:
    """Place a plug-in's loss by its name alone, so that it looks the same in every report."""
    return int(hashlib.sha256(loss.encode()).hexdigest(), 16) % (len(COLORS) * len(MARKERS))


def _details(row: Row, section: Section) -> str:
    known = {"backbone": row.backbone, "embedding_dim": f"{row.embedding_dim}-d"}
    varying = [] if row.is_reference else [known[name] for name in section.varying]
    return ", ".join(filter(None, [row.options, *varying]))


def folded(name: str, details: str, width: int, lines: int) -> str:
    """Keep name and details on one line if they fit, else start a new line; cut the middle out of what is longer."""
    name, details = (" ".join(text.split()) for text in (name, details))
    if len(name) + 2 + len(details) <= width or not details:
        return shortened("  ".join(filter(None, (name, details))), width)
    wrapped, length = textwrap.wrap(details, width), width * (lines - 1)
    while len(wrapped) >= lines:
        wrapped, length = textwrap.wrap(shortened(details, length), width), length - 1
    return "\n".join([shortened(name, width), *wrapped])


def shortened(text: str, length: int) -> str:
    """Cut the middle out of a text that is longer than ``length``."""
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"
