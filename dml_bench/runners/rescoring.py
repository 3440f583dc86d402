"""Measure published runs again from their stored embeddings; nothing is trained, nothing published is edited."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dml_bench.data.embedding_files import EmbeddingFile, read_embeddings
from dml_bench.errors import DataError, OptionError, Problem
from dml_bench.evaluation.evaluate import Scores, Tell, read_bytes
from dml_bench.evaluation.metrics import parse_metric
from dml_bench.flow import threads
from dml_bench.measuring import score
from dml_bench.recipe.identity import protocol_id
from dml_bench.recipe.schema import Evaluation
from dml_bench.results.environment import environment
from dml_bench.results.record import RunRecord
from dml_bench.results.store import find_runs


@dataclass(frozen=True)
class Rescored:
    """One run measured again.

    Attributes:
        folder: where the run is published.
        recorded: its record.
        rescored: what the record would say with the metrics asked for; failed, with the reason, where the run failed
            or its embeddings cannot be scored.
    """

    folder: Path
    recorded: RunRecord
    rescored: RunRecord

    @property
    def is_lost(self) -> bool:
        """Whether the run went well but cannot be scored any more."""
        return self.recorded.status == "ok" != self.rescored.status


def rescore(
    folders: Iterable[Path],
    metrics: Sequence[str],
    *,
    restarts: int | None = None,
    memory: str | int = "1GB",
    tell: Tell = lambda what, done, total: None,
) -> list[Rescored]:
    """Score every published run at or below ``folders`` again, in order of path.

    Args:
        folders: folders of runs, or runs.
        metrics: names such as ``recall@1``.
        restarts: k-means restarts; by default each run's own, which with its seed give the numbers of its record.
        memory: see ``evaluate``.
        tell: hears of progress.

    Raises:
        OptionError: for an unknown metric, or an option out of range.
        ResultsError: if there is no run, or a record is broken.
    """
    if not metrics:
        raise OptionError([Problem(("metrics",), "names no metric")])
    if restarts is not None and restarts < 1:
        raise OptionError([Problem(("restarts",), f"must be at least 1, not {restarts}")])
    for name in metrics:
        parse_metric(name)
    read_bytes(memory)
    runs = find_runs(folders)
    found = []
    for done, (folder, record) in enumerate(runs.items()):
        tell("runs", done, len(runs))
        found.append(Rescored(folder, record, _rescored(folder, record, metrics, restarts, memory, tell)))
    tell("runs", len(runs), len(runs))
    return found


def _rescored(
    folder: Path, record: RunRecord, metrics: Sequence[str], restarts: int | None, memory: str | int, tell: Tell
) -> RunRecord:
    """Return the record with its metrics replaced, under the protocol of today's rules."""
    rules = rules_of(record, metrics, restarts)
    digest = record.data.get("digest")
    record = replace(
        record,
        protocol_id=protocol_id(digest, rules.distance, record.recipe.get("selection"))
        if digest
        else record.protocol_id,
        environment={**record.environment, "dml_bench": environment()["dml_bench"]},
        metrics={},
    )
    if record.status == "failed":
        return record
    try:
        file = stored_embeddings(folder / "embeddings.npz", record)
        with threads(threads_of(record)):
            how: dict[str, Any] = {"query": file.query, "gallery": file.gallery, "memory": memory, "tell": tell}
            scores: Scores = score(file.embeddings, file.labels, rules, record.seed, **how)
    except DataError as error:
        text = str(error)
        reason = text if str(folder) in text else f"{folder / 'embeddings.npz'}: {text}"
        return replace(record, status="failed", reason=reason)
    return replace(record, metrics={name: value for name, value in scores.items() if value == value})


def rules_of(record: RunRecord, metrics: Sequence[str], restarts: int | None) -> Evaluation:
    """Return the run's rules of measurement with other metrics; what its record does not say is at its default."""
    said = {key: value for key, value in record.recipe.get("evaluation", {}).items() if key in Evaluation.model_fields}
    changes = {"metrics": list(metrics)} | ({} if restarts is None else {"restarts": restarts})
    return Evaluation.model_validate({**said, **changes})


def stored_embeddings(path: Path, record: RunRecord) -> EmbeddingFile:
    """Read the embeddings of a run, and see that they are as many and as long as its record says."""
    file = read_embeddings(path)
    images = record.data.get("test", {}).get("images", len(file.embeddings))
    expected = (images, record.embedding_dim)
    if file.embeddings.shape != expected:
        raise DataError(f"{path}: embeddings of shape {file.embeddings.shape}, but the run's record says {expected}")
    return file


def threads_of(record: RunRecord) -> int:
    """Return the threads of the run, on which the rounding of k-means depends."""
    return int((record.recipe.get("training") or {}).get("threads", 1))
