"""From a folder or table of one's own images to a recipe: settings that follow from the data. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dml_bench.data.catalog import LISTINGS
from dml_bench.data.listing import GALLERY, QUERY, TEST, TRAIN, Listing
from dml_bench.data.photo import read_photo
from dml_bench.errors import DataError, ResultsError
from dml_bench.recipe.reader import safe_name, with_changes, write_document
from dml_bench.results.record import RunRecord

TABLES = (".csv", ".tsv", ".parquet", ".pq")
"""How the name of a table ends; anything else is a folder, zip or tar file of class folders."""

BUDGET = 60_000 * 48 * 48
"""Pixels that each loss is trained on, all its passes together: about a minute and a half on one CPU core."""

EPOCHS = (3, 60)
"""Fewest and most, whatever the budget says; from more passes the losses learn the training classes by heart."""

ENOUGH = 15
"""Passes that are worth more than finer detail."""

JUDGED = ("recall@1", "map@r")
"""Metrics in which a loss has to be above raw pixels."""

LOOKED_AT = 32
"""Photos that are opened to learn their size."""


def own_recipe(path: Path, changes: Iterable[str] = ()) -> dict[str, Any]:
    """Return a recipe for class folders (in a folder, zip or tar file) or a table, by the rules of ``choose``.

    Args:
        path: where the data lies; absolute, or relative to the current folder.
        changes: ``"path=value"`` settings, of which those of the reader, such as ``"dataset.images=photos"``, decide
            what is read; the recipe does not hold them yet.

    Raises:
        DataError: if there is nothing to read at ``path``, or the data cannot be trained and tested on.
        RecipeError: if a change cannot be made.
    """
    place = path.expanduser().absolute()
    if not place.exists():
        raise DataError(f"--data {path}: there is no such folder or file")
    kind = "table" if place.suffix.lower() in TABLES and place.is_file() else "folder"
    wanted = with_changes({"dataset": {}}, [change for change in changes if change.startswith("dataset.")])["dataset"]
    reading = {option.name: wanted[option.name] for option in LISTINGS[kind].options if option.name in wanted}
    listing = LISTINGS.build(kind, None, **{"path": str(place), **reading})
    document = choose(listing, short_side(listing), str(place), quick=multiplies_bf16())
    resolved = place.resolve()
    return {"name": safe_name(resolved.name if resolved.is_dir() else resolved.name.split(".")[0]), **document}


def short_side(listing: Listing) -> int:
    """Return the median short side of photos spread over a listing, pixels, inside their boxes if there are any.

    Raises:
        DataError: naming a photo that cannot be read.
    """
    rows = np.unique(np.linspace(0, len(listing) - 1, min(len(listing), LOOKED_AT)).astype(np.int64)).tolist()
    names = [listing.paths[row] for row in rows]
    boxes = [None if listing.boxes is None else tuple(listing.boxes[row].tolist()) for row in rows]
    sides = [
        min(read_photo(data, f"{listing.source.path}/{name}", "rgb", box).size)
        for name, box, data in zip(names, boxes, listing.source.read(names), strict=True)
    ]
    return int(np.median(sides))


def multiplies_bf16(flags: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the processor says that it multiplies bfloat16, which others imitate slowly."""
    try:
        return "avx512_bf16" in flags.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def choose(listing: Listing, side: int, path: str, *, quick: bool = False) -> dict[str, Any]:
    """Choose the settings of a leaderboard of four losses.

    With C classes and N images to train on, m of them in the median class:

    - ``image_size`` 48 pixels if ``BUDGET`` allows 15 passes at that size, and the photos have that many; else 32.
    - ``epochs`` as many as ``BUDGET`` pixels allow, within 3 and 60.
    - ``classes_per_batch`` P = C / 2 within 2 and 16: as not every batch holds every class, large classes are seen
      whole; ``images_per_class`` K = 64 / P within 2 and 16, not more than m.
    - ``centers_per_class`` of softtriple: 2 if m >= 10, else 1.
    - ``seeds`` 0 and 1 if both together cost no more than ``BUDGET``, else 0.
    - ``precision`` bf16 if that is quick; else fp32, and ``BUDGET`` is half of itself.

    Whatever the data: few classes are soon learned by heart, so crops, mirrors and colors make new images of the old
    ones, weights decay a thousand times as much as in the other recipes, and 512 dimensions keep more than what tells
    the training classes apart. A ``grid`` of 2 x 2 cells keeps what is where, as raw pixels do.

    Args:
        listing: the data, of the readers ``folder`` or ``table``.
        side: median short side of the photos, pixels.
        path: where the data lies.
        quick: whether the processor multiplies bfloat16.

    Returns:
        A recipe without a name.

    Raises:
        DataError: if training or test images are too few to learn or to measure anything from.
    """
    counts = _class_sizes(listing, TRAIN)
    check_enough(listing)
    images, median = int(counts.sum()), int(np.median(counts))
    budget = BUDGET if quick else BUDGET // 2
    size = 48 if side >= 48 and budget // (images * 48**2) >= ENOUGH else 32
    affordable = budget // (images * size**2)
    per_batch = min(16, max(2, len(counts) // 2))
    per_class = max(2, min(16, 64 // per_batch, median))
    epochs = min(max(affordable, EPOCHS[0]), EPOCHS[1])
    return {
        "dataset": {"name": listing.name, "path": path, "image_size": size},
        "backbone": {"name": "convnet", "width": 32, "grid": 2},
        "embedding": {"dim": 512},
        "training": {
            "epochs": epochs,
            "sampler": {"name": "pxk", "classes_per_batch": per_batch, "images_per_class": per_class},
            "optimizer": {"name": "adamw", "lr": 0.001, "weight_decay": 0.1},
            "centers": {"lr": 0.01},
            "schedule": "cosine",
            "warmup_epochs": 0.5,
            "augmentation": {
                "crop": "resized",
                "crop_scale": [0.3, 1.0],
                "flip": True,
                "brightness": 0.3,
                "contrast": 0.3,
                "saturation": 0.3,
            },
            "precision": "bf16" if quick else "fp32",
        },
        "evaluation": {"restarts": 3},
        "seeds": [0, 1] if affordable >= 2 * epochs else [0],
        "grid": {
            "loss": [
                "norm_softmax",
                "proxy_anchor",
                {"name": "softtriple", "centers_per_class": 2 if median >= 10 else 1},
                "multi_similarity",
            ]
        },
    }


def check_enough(listing: Listing) -> None:
    """Refuse data that nothing can be learned from, or measured on.

    Raises:
        DataError: unless there are 2 classes to train, one of them with 2 images, and 2 classes to test, one of them
            with a query and another image to be found.
    """
    for part, roles in (("train", (TRAIN,)), ("test", (TEST, QUERY, GALLERY))):
        sizes = _class_sizes(listing, *roles)
        if len(sizes) < 2:
            raise DataError(f"{listing.source.path}: has {len(sizes)} classes to {part}; at least 2 are needed")
        if sizes.max() < 2:
            raise DataError(
                f"{listing.source.path}: no class to {part} has 2 images; images of one class are to be brought "
                "together, so most classes need at least 2"
            )
    queries, gallery = (listing.labels[listing.part(role)] for role in (QUERY, GALLERY))
    if _class_sizes(listing, TEST).max(initial=0) < 2 and not len(np.intersect1d(queries, gallery)):
        raise DataError(f"{listing.source.path}: no query has an image of its class in the gallery")


def keep_recipe(document: Mapping[str, Any], changes: Iterable[str], folder: Path, *, force: bool = False) -> Path:
    """Write a recipe, with ``--set`` changes made, to ``folder/recipe.yaml``; return where.

    Raises:
        ResultsError: if another recipe is there, which may have been edited, and ``force`` does not allow to replace
            it; or the file cannot be written.
    """
    file = folder / "recipe.yaml"
    text = (
        "# Chosen from the data by dml-bench run --data. Edit it, then: dml-bench run recipe.yaml\n"
        "# Where left and right matter, as in writing, set flip: false. Small differences need more seeds.\n"
    ) + write_document(with_changes(document, changes))
    try:
        if file.exists() and not force and file.read_text(encoding="utf-8") != text:
            raise ResultsError(
                f"{file}: differs from the settings chosen now; run it as it is (dml-bench run {file}), "
                "or replace it with --force, or choose another --out"
            )
        file.write_text(text, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"{file}: cannot be read or written: {error}") from None
    return file


def verdict(records: Sequence[RunRecord]) -> str:
    """Say which losses are not above raw pixels, and what to do about it; nothing if all are, by every metric asked.

    Args:
        records: of the leaderboard, references and failed runs among them.
    """
    means = {
        loss: {name: float(np.mean([r.metrics[name] for r in runs if name in r.metrics])) for name in JUDGED}
        for loss in dict.fromkeys(record.loss for record in records)
        if (runs := [r for r in records if r.loss == loss and r.status == "ok" and r.metrics.keys() >= set(JUDGED)])
    }
    floor = means.pop("raw_pixels", None)
    means.pop("untrained", None)
    below = [loss for loss, mean in means.items() if floor and any(mean[name] <= floor[name] for name in JUDGED)]
    if not below:
        return ""
    who = "No loss" if len(below) == len(means) else f"Not every loss ({', '.join(below)} not)"
    return (
        f"{who} is above raw pixels in {' and '.join(JUDGED)}: what tells the training classes apart does not carry "
        "over to the others. More classes help most, then more images of each and more epochs; then a larger network."
    )


def _class_sizes(listing: Listing, *roles: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return how many images each class has that has any, ``(C,)``."""
    return np.unique(listing.labels[listing.part(*roles)], return_counts=True)[1].astype(np.int64)
