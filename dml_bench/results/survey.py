"""How a grid stands, from its folder alone: who waits, who runs and where, what is done. Needs no torch."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dml_bench.errors import ResultsError
from dml_bench.results.lease import Holder, clock, holders
from dml_bench.results.live import read_live, read_told, write_told
from dml_bench.results.record import RunRecord
from dml_bench.results.store import RUN, find_run


@dataclass(frozen=True)
class Standing:
    """How one run stands.

    Attributes:
        label: method, options and seed, for people.
        state: ``stale`` if its process died or no longer gives signs of life; the next command takes it over.
        live: of a run that was begun: ``since``, ``phase``, ``epoch``, ``epochs``, ``loss``, ``images_per_second`` and
            ``left`` (seconds), as far as they are known.
        holder: who has the run, or had it.
        record: what was published.
    """

    run_id: str
    label: str
    state: Literal["waiting", "running", "stale", "done", "failed"]
    live: Mapping[str, Any] = field(default_factory=dict)
    holder: Holder | None = None
    record: RunRecord | None = None


def write_plan(folder: Path, name: str, labels: Mapping[str, str]) -> None:
    """Write which runs a recipe has, in order, with what people call them: ``.plan-<name>.json``."""
    kept = re.sub(r"[^\w.-]", "_", name)
    write_told(folder / f".plan-{kept}.json", {"runs": dict(labels)})


def survey(folder: Path) -> list[Standing]:
    """Return how every run of a folder stands: those planned in their order, then others that are there.

    Raises:
        ResultsError: if there is no such folder, nothing was ever planned or run in it, or a record is broken.
    """
    if not folder.is_dir():
        raise ResultsError(f"{folder}: no such folder of runs")
    labels: dict[str, str] = {}
    for plan in sorted(folder.glob(".plan-*.json")):
        labels |= read_told(plan).get("runs", {})
    owners = holders(folder)
    published = sorted(path.name for path in folder.iterdir() if re.fullmatch(RUN, path.name))
    run_ids = list(dict.fromkeys([*labels, *published, *owners]))
    if not run_ids:
        raise ResultsError(f"{folder}: no run was planned or published in it")
    now = _now(folder) if owners else 0.0
    return [_standing(folder, run_id, labels.get(run_id, ""), owners.get(run_id), now) for run_id in run_ids]


def _standing(folder: Path, run_id: str, label: str, owner: Holder | None, now: float) -> Standing:
    live = read_live(folder / f".work-{run_id}")
    if owner and owner.alive(now):
        return Standing(run_id, label or run_id, "running", live, owner)
    record = find_run(folder, run_id)
    name = label or (_label(record) if record else run_id)
    if record:
        return Standing(run_id, name, "done" if record.status == "ok" else "failed", record=record)
    return Standing(run_id, name, "stale" if owner else "waiting", live, owner)


def _label(record: RunRecord) -> str:
    options = [f"{key}={value}" for key, value in record.options.items()]
    return " ".join([record.loss, *options, f"seed {record.seed}"])


def _now(folder: Path) -> float:
    """Return the time by the file system's clock, or by this machine's where nothing can be written."""
    try:
        return clock(folder)
    except OSError:
        return time.time()
