"""Files of weights that a recipe names: where they are, and the digest that stands for what is in them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from dml_bench.errors import DataError, Problem

ROOT_VARIABLE = "DML_BENCH_DATA"
"""The environment variable that names the folder of the downloaded data sets, and of files of weights."""

HUB = "hub"
"""Instead of a path: the file is fetched from the Hugging Face hub, if it is not in its cache."""

DIGITS = 8
"""So many digits of the sha256 stand for a file in an id; a recipe may state more."""


def located(backbone: Mapping[str, Any], data_root: str | None) -> dict[str, Any]:
    """Return a backbone's choice with the path of its weights made absolute.

    Raises:
        DataError: if there is no such file.
    """
    if not _is_file(backbone):
        return dict(backbone)
    return {**backbone, "weights": str(find(backbone["weights"], data_root))}


def find(path: str, data_root: str | None) -> Path:
    """Return the absolute path of a file below ``data_root`` (else ``$DML_BENCH_DATA``) or the current folder.

    Raises:
        DataError: if there is no such file.
    """
    root = data_root or os.environ.get(ROOT_VARIABLE)
    tried = [*([Path(root, path).expanduser()] if root else []), Path(path).expanduser()]
    for place in tried:
        if place.is_file():
            return place.absolute()
    looked = ", ".join(map(str, dict.fromkeys(tried)))
    where = f"name it absolutely, or relative to data_root or ${ROOT_VARIABLE}"
    raise DataError(f"backbone.weights: there is no file {looked}; {where}")


def pin(values: Mapping[str, Any]) -> list[Problem]:
    """Fill in the sha256 of the weights that a recipe names, unless it states one; return what hinders it.

    Its first digits are enough, and a file's name may hold them; whether they are right is seen when it is loaded.
    """
    backbone = values.get("backbone")
    if not isinstance(backbone, dict) or "sha256" not in backbone or backbone["sha256"] is not None:
        return []
    if backbone.get("weights") == HUB:
        return [Problem(("backbone", "weights"), "needs its sha256 stated, since the hub may change the file")]
    if not _is_file(backbone):
        return []
    if digits := digits_in(backbone["weights"]):
        backbone["sha256"] = digits
        return []
    try:
        root = values.get("data_root")
        path = find(backbone["weights"], root if isinstance(root, str) else None)
        backbone["sha256"] = _sha256(path, path.stat().st_mtime_ns)
    except (DataError, OSError) as error:
        reason = str(error).removeprefix("backbone.weights: ")
        return [Problem(("backbone", "weights"), f"{reason}; or state its sha256, to check the recipe without it")]
    return []


def digits_in(name: str) -> str:
    """Return the first digits of a sha256 that a file's name ends with, as in ``resnet50-0676ba61.pth``, or nothing."""
    found = re.search(r"-([0-9a-f]{8,64})\.\w+$", name)
    return found[1] if found else ""


def named_by_content(backbone: Any) -> Any:
    """Return a backbone's choice with the first digits of the sha256 for its weights, wherever they lie."""
    if not isinstance(backbone, Mapping) or not {"weights", "sha256"} <= backbone.keys():
        return backbone
    rest = {key: value for key, value in backbone.items() if key not in ("weights", "sha256")}
    if backbone["weights"] is None:
        return rest
    return {**rest, "weights": backbone["sha256"][:DIGITS]} if backbone["sha256"] else backbone


def _is_file(backbone: Mapping[str, Any]) -> bool:
    """Tell whether the choice begins from a file; only one with a digest beside it is a file of weights."""
    return "sha256" in backbone and isinstance(backbone.get("weights"), str) and backbone["weights"] != HUB


@lru_cache(maxsize=64)
def _sha256(path: Path, changed: int) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
