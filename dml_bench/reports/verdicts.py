"""Our numbers beside published ones: what differs, by how much, and whether that means anything."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dml_bench.reports.ledger import UNKNOWN, Figure, figures
from dml_bench.results.record import RunRecord

CONDITIONS = ("backbone", "dim", "batch", "crop", "selection", "split")
"""What must be known to be the same before two numbers may be said to agree."""

WHOLE = {
    "cub200": (5_864, 100, 5_924, 100),
    "cars196": (8_054, 98, 8_131, 98),
    "sop": (59_551, 11_318, 60_502, 11_316),
    "inshop": (25_882, 3_997, 26_830, 3_985),
}
"""Training images and classes, test images and classes of the splits that papers report on."""

USUAL: Mapping[str, tuple[object, ...]] = {
    "split": ("class_disjoint",),
    "partial": (False,),
    "boxes": (False,),
    "square": (False,),
    "color": ("rgb",),
    "alignment": ("original",),
}
"""Options of a data set as papers have them. Another value is a condition that differs, and so is any other option."""

RESIZED = {224: 256, 227: 256, 256: 288}
"""Side of the centre that papers cut out, to the short side that they resize a photo to before, if not to the same."""

ELSEWHERE = ("name", "image_size", "layout")
"""Options that are compared elsewhere, or say where files lie."""

UNSTATED = ("square", "resize")
"""Options that no figure states: where they are unusual, it is not known whether they differ."""

WIDEST = 0.05
"""Half of the widest interval by which a figure may be called reproduced; that of 100 test classes is narrower."""

NORMAL = 1.959963984540054
"""How many standard errors a 95 % interval reaches either way."""


@dataclass(frozen=True)
class Ours:
    """One of our numbers.

    Attributes:
        dataset: its key.
        loss: its key.
        metric: its name.
        mean: over seeds, a share.
        low: lower end of the 95 % interval, a share; nan if there is none.
        high: upper end.
        half: half of the interval before its ends were cut to 0 and 1.
        seeds: how many the mean is over.
        conditions: of ``CONDITIONS``, and others of our own that differ from what papers do, such as ``data: partial``.
    """

    dataset: str
    loss: str
    metric: str
    mean: float
    low: float
    high: float
    half: float
    seeds: int
    conditions: Mapping[str, str]


@dataclass(frozen=True)
class Comparison:
    """One of our numbers beside one published figure.

    Attributes:
        deviation: ours less theirs, a share.
        z: the deviation in standard errors, half of the interval being 1.96 of them; nan without one.
        verdict: what may be said.
        differs: conditions known to differ, such as ``dim 64 not 512``.
        unknown: conditions that the source, or our record, does not state.
    """

    ours: Ours
    figure: Figure
    deviation: float
    z: float
    verdict: str
    differs: tuple[str, ...] = field(default=())
    unknown: tuple[str, ...] = field(default=())


def compare_with_reported(rows: Iterable[Ours], ledger: Sequence[Figure] | None = None) -> list[Comparison]:
    """Set each of our numbers beside every published figure of its data set, loss and metric.

    Args:
        rows: our numbers.
        ledger: the figures; None takes the shipped ledger.

    Returns:
        In the order of ``rows``; for each of them by how many conditions differ or are unknown.
    """
    known = figures() if ledger is None else ledger
    found = []
    for ours in rows:
        same = [f for f in known if (f.dataset, f.loss, f.metric) == (ours.dataset, ours.loss, ours.metric)]
        beside = [compare(ours, figure) for figure in same]
        found += sorted(beside, key=lambda comparison: len(comparison.differs) + len(comparison.unknown))
    return found


def compare(ours: Ours, figure: Figure) -> Comparison:
    """Set one of our numbers beside one published figure.

    Conditions that are known to differ are named whatever the numbers say; one seed allows no claim; a figure with
    unknown conditions is at best consistent with ours, never reproduced; and neither, if ours is too uncertain.
    """
    differs, unknown = _conditions(ours.conditions, figure)
    deviation, half = ours.mean - figure.share, ours.half
    if math.isnan(half) or (half == 0 and deviation == 0):
        z = math.nan if math.isnan(half) else 0.0
    else:
        z = math.copysign(math.inf, deviation) if half == 0 else NORMAL * deviation / half
    if differs:
        verdict = f"conditions differ ({', '.join(differs)})"
    elif ours.seeds < 2 or math.isnan(half):
        verdict = f"n={ours.seeds}, no claim"
    else:
        verdict = _verdict(ours, figure.share, unknown)
    return Comparison(ours, figure, deviation, z, verdict, differs, unknown)


def _verdict(ours: Ours, reported: float, unknown: Sequence[str]) -> str:
    doubt = f" ({', '.join(unknown)} unknown)" if unknown else ""
    # Published figures are rounded, in decimal; what falls on an end of the interval is inside.
    if ours.low - 1e-9 <= reported <= ours.high + 1e-9:
        if ours.half > WIDEST:
            why = (f"± {100 * ours.half:.1f}", *(f"{name} unknown" for name in unknown))
            return f"too uncertain ({', '.join(why)})"
        return "consistent" + doubt if unknown else "reproduced"
    return ("above" if ours.low > reported else "below") + doubt


def _conditions(ours: Mapping[str, str], figure: Figure) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the conditions that differ, and those that are unknown on either side."""
    differs, unknown = [], []
    for name in CONDITIONS:
        mine, theirs = ours.get(name, UNKNOWN), getattr(figure, name)
        if UNKNOWN in (mine, theirs):
            unknown.append(name)
        elif mine != theirs:
            differs.append(f"{name} {mine} not {theirs}")
    for name in sorted(set(ours) - set(CONDITIONS)):
        if ours[name] == UNKNOWN:
            unknown.append(name)
        else:
            differs.append(f"{name} {ours[name]}")
    if figure.setting:
        unknown.append(f"setting: {figure.setting}")
    return tuple(differs), tuple(unknown)


def conditions_of(run: RunRecord) -> dict[str, str]:
    """Return the conditions of a run, as far as its record states them.

    Besides ``CONDITIONS``: ``data``, if it is not the whole data set in its usual form, and ``weights``, unknown if the
    network began from random ones, as no figure of the ledger says what its network began from.
    """
    recipe = run.recipe
    data, training = recipe.get("dataset", {}), recipe.get("training") or {}
    found = {
        "backbone": run.backbone,
        "dim": str(run.embedding_dim),
        "batch": _batch(training.get("sampler", {})),
        "crop": str(data.get("image_size", UNKNOWN)),
        "selection": str((recipe.get("selection") or {}).get("name", "last")) if recipe else UNKNOWN,
        "split": "test",
    }
    if not run.weights:
        found["weights"] = UNKNOWN
    unusual = _unusual(data)
    found |= {text: UNKNOWN for name, text in unusual.items() if name in UNSTATED}
    odd = [text for name, text in unusual.items() if name not in UNSTATED]
    odd += [f"subset {part.get('name')}" for part in recipe.get("subset") or ()]
    if not odd and (changed := _not_whole(run)):
        odd = [changed]
    return {**found, "data": ", ".join(odd)} if odd else found


def _unusual(data: Mapping[str, object]) -> dict[str, str]:
    """Name, and say with their values, the options of a data set that are not as papers have them."""
    size = data.get("image_size")
    usual = {**USUAL, "resize": (None, size, RESIZED.get(size) if isinstance(size, int) else None)}
    odd = {name: value for name, value in data.items() if name not in ELSEWHERE and value not in usual.get(name, ())}
    return {name: name if value is True else f"{name} {value}" for name, value in odd.items()}


def _batch(sampler: Mapping[str, object]) -> str:
    if "batch_size" in sampler:
        return str(sampler["batch_size"])
    classes, images = sampler.get("classes_per_batch"), sampler.get("images_per_class")
    return str(classes * images) if isinstance(classes, int) and isinstance(images, int) else UNKNOWN


def _not_whole(run: RunRecord) -> str:
    """Say what is missing from the data set; nothing if it is whole, or nobody says how much there should be."""
    expected, parts = WHOLE.get(run.dataset), run.data
    if expected is None:
        return ""
    if "test" not in parts or "train" not in parts:
        return UNKNOWN
    trained = [parts[name] for name in ("train", "validation") if name in parts]
    found = [sum(part[what] for part in trained) for what in ("images", "classes")]
    found += [parts["test"]["images"], parts["test"]["classes"]]
    return "" if tuple(found) == expected else "not the whole data set"
