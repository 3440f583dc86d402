"""A run on a machine that shares no disk with the one that asked for it.

It works in a temporary folder. Its events and its checkpoints are sent as they come, and the files it would publish are
returned: the machine that asked writes them.
"""

from __future__ import annotations

import hashlib
import platform
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import dml_bench
from dml_bench.data.dataset import Split
from dml_bench.errors import DataError, DmlBenchError
from dml_bench.flow import execute
from dml_bench.recipe.check import Run
from dml_bench.recipe.schema import Recipe
from dml_bench.results.attempts import CHECKPOINTS, COUNT
from dml_bench.results.journal import Tell
from dml_bench.results.live import both
from dml_bench.runners.worker import sparsely
from dml_bench.splits import load_split
from dml_bench.training.checkpoint import write_whole

Files = Mapping[str, bytes]
"""The contents of files by their names in a run's folder."""


@dataclass(frozen=True)
class Order:
    """What a node is to do.

    Attributes:
        run: a checked run.
        attempt: counted from 1.
        files: what earlier attempts left in the run's work folder.
        every: optimizer steps between checkpoints; see ``flow.execute``.
        digest: of the data on the machine that asks.
        code: of the package there; see ``code_digest``.
    """

    run: Run
    attempt: int
    files: Files
    digest: str
    code: str
    every: int | None = None


def perform(order: Order, tell: Tell, split: Split | None = None) -> Files:
    """Do a run here and return the files to publish.

    Args:
        order: what is to be done.
        tell: receives the run's events, and ``{"event": "files", "files": Files, "kept": names}`` when the checkpoints
            in its work folder, or the count of attempts there, have changed.
        split: the data; None reads it from where the recipe says.

    Raises:
        DmlBenchError: if the package here is not the one that asks.
    """
    run, here = order.run, platform.node()
    if code_digest() != order.code:
        raise DmlBenchError(
            f"node {here}: its dml_bench ({dml_bench.__version__}, sources {code_digest()[:12]}) is not the "
            f"one that asks (sources {order.code[:12]}); install the same on every node"
        )

    def load(recipe: Recipe) -> Split:
        found = split or load_split(recipe)
        if found.digest != order.digest:
            raise DataError(f"node {here}: its data is not that of the machine that asks; see --ship-data")
        return found

    with tempfile.TemporaryDirectory(prefix="dml-bench-") as name:
        work = work_folder(Path(name), run)
        write_files(work, order.files)
        sender = Sender(work, tell)
        how: dict[str, Any] = {"tell": both(sparsely(tell), sender.send), "on_checkpoint": sender.send, "load": load}
        execute(run, Path(name), device=device_of(run), checkpoint_every=order.every, **how)
        return read_files(Path(name) / run.run_id, "*")


def device_of(run: Run) -> str:
    """Return the torch device of a run, as its resources say; Ray shows a task only the GPUs it was given."""
    return "cuda" if run.recipe.resources.num_gpus else "cpu"


def need_of(run: Run) -> dict[str, float]:
    """Return what a cluster must set aside for a run: one core or more, and GPUs if any."""
    wanted, training = run.recipe.resources, run.recipe.training
    cores = wanted.num_cpus or (training.threads if training else 1)
    return {"CPU": float(cores), **({"GPU": wanted.num_gpus} if wanted.num_gpus else {})}


def work_folder(folder: Path, run: Run) -> Path:
    """Return where a run of ``folder`` keeps what it needs to go on after its process has died."""
    return folder / f".work-{run.run_id}"


def read_files(folder: Path, *patterns: str) -> dict[str, bytes]:
    """Return the files of a folder whose names match a pattern; none if it is not there."""
    return {path.name: path.read_bytes() for pattern in patterns for path in folder.glob(pattern)}


def left_behind(work: Path) -> dict[str, bytes]:
    """Return what another attempt at a run needs of its work folder."""
    return read_files(work, COUNT, CHECKPOINTS)


def write_files(folder: Path, files: Files) -> None:
    """Write files, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_whole(folder / name, content)


def keep_only(folder: Path, names: Iterable[str]) -> None:
    """Remove all other files of a folder."""
    for path in folder.iterdir():
        if path.name not in set(names):
            path.unlink()


def take_over(work: Path, files: Files, kept: Iterable[str]) -> None:
    """Write what an attempt has sent to the work folder of its run, and remove checkpoints that it no longer keeps."""
    write_files(work, files)
    for path in work.glob(CHECKPOINTS):
        if path.name not in set(kept):
            path.unlink()


class Sender:
    """Sends what another attempt would need, as soon as it changes.

    Args:
        work: the hidden folder of a run that goes on here.
        tell: receives ``{"event": "files", "files": Files, "kept": names}``.
    """

    def __init__(self, work: Path, tell: Tell) -> None:
        self._work, self._tell = work, tell
        self._known = self._stamps()

    def send(self, _: object = None) -> None:
        """Look, and send what has changed."""
        if (now := self._stamps()) != self._known:
            changed = [name for name in now if now[name] != self._known.get(name)]
            self._known = now
            files = {name: (self._work / name).read_bytes() for name in changed}
            self._tell({"event": "files", "files": files, "kept": list(now)})

    def _stamps(self) -> dict[str, int]:
        """Return the files that matter, which come whole by a rename, and when each was written."""
        found = [path for name in (COUNT, CHECKPOINTS) for path in self._work.glob(name)]
        return {path.name: path.stat().st_mtime_ns for path in found}


@cache
def code_digest() -> str:
    """Return a sha256 over the sources of this package."""
    top, sha = Path(dml_bench.__file__).parent, hashlib.sha256()
    for path in sorted(top.rglob("*.py")):
        sha.update(f"{path.relative_to(top).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return sha.hexdigest()
