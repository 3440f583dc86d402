"""What is known of a run while it goes on: enough, at any moment, for the record of a run that fails."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, Literal

from dml_bench.recipe.check import Run
from dml_bench.recipe.identity import protocol_id
from dml_bench.results.environment import environment
from dml_bench.results.record import Epoch, RunRecord

Tell = Callable[[Mapping[str, Any]], None]
"""Receives what happens: ``{"event": "phase" | "step" | "epoch", ...}``."""


class Journal:
    """Collect timings, the training curve and the log lines of one run."""

    def __init__(self, run: Run, device: str, tell: Tell) -> None:
        self.run, self.device, self._tell = run, device, tell
        self.curve: list[Epoch] = []
        self.lines: list[str] = []
        self.seconds: dict[str, float] = {}
        self.data: dict[str, Any] = {}
        self.embedding_dim = (run.recipe.embedding.dim if run.recipe.embedding else 0) or 0
        self.weights = ""
        self.centers_left: tuple[int, ...] = ()
        self.selected: dict[str, Any] = {}
        self.costs: dict[str, int] = {}
        self.checks: dict[str, int] = {}
        self.attempts, self.resumed_from, self.ranks = 1, 0, 1
        self._start = time.perf_counter()
        self._phase = ("", 0.0)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a part of the run under ``name``, in addition to what earlier attempts took."""
        self._tell({"event": "phase", "phase": name})
        self._phase = (name, time.perf_counter())
        try:
            yield
        finally:
            self.seconds = self._spent()
            self._phase = ("", 0.0)
            self.lines.append(f"{name}: {self.seconds[name]:.2f} s")

    def _spent(self) -> dict[str, float]:
        """Return the seconds of all phases up to now."""
        name, start = self._phase
        now = {name: round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 3)} if name else {}
        return {**self.seconds, **now}

    def state_dict(self) -> dict[str, Any]:
        """Return what the record of a run that goes on later needs to know of this attempt."""
        total = time.perf_counter() - self._start
        curve = [asdict(epoch) for epoch in self.curve]
        return {"curve": curve, "lines": [*self.lines], "seconds": self._spent(), "total": total}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` returned; what was noted since stays behind it."""
        self.curve = [Epoch(**epoch) for epoch in state["curve"]]
        self.lines = [*state["lines"], *self.lines]
        spent = state["seconds"]
        self.seconds = {name: spent.get(name, 0.0) + self.seconds.get(name, 0.0) for name in {**spent, **self.seconds}}
        self._start -= state["total"]

    def began(self, since: float | None) -> None:
        """Count the seconds since then, by the clock, as spent."""
        if since is not None:
            self._start -= max(0.0, time.time() - since)

    def resumed(self, steps: int) -> None:
        """Note that the run goes on after ``steps`` optimizer steps of an earlier attempt."""
        self.resumed_from = steps
        self.lines.append(f"attempt {self.attempts} goes on after step {steps}")
        self._tell({"event": "resumed", "steps": steps, "attempt": self.attempts})

    def note(self, line: str) -> None:
        """Add a line to the log."""
        self.lines.append(line)

    def warn(self, line: str) -> None:
        """Add a line to the log that whoever watches should see."""
        self.lines.append(line)
        self._tell({"event": "warning", "line": line})

    def step(self, step: Any) -> None:
        """Tell where training stands."""
        self._tell({"event": "step", **vars(step)})

    def epoch(self, result: Any) -> None:
        """Note a finished epoch, whose fields are those of ``Epoch``."""
        epoch = Epoch(**vars(result))
        self.curve.append(epoch)
        self.lines.append(f"epoch {epoch.epoch}: loss {epoch.loss:.4f}, {epoch.images_per_second:.0f} images/s")
        self._tell({"event": "epoch", **vars(epoch)})

    def validated(self, epoch: int, metric: str, value: float) -> None:
        """Note what a finished epoch was found to be worth."""
        self.curve = [replace(line, score=value) if line.epoch == epoch else line for line in self.curve]
        self.lines.append(f"epoch {epoch}: {metric} {value:.4f}")
        self._tell({"event": "validated", "epoch": epoch, "metric": metric, "value": value})

    def record(
        self, status: Literal["ok", "failed"], metrics: Mapping[str, float], reason: str = "", died: bool = False
    ) -> RunRecord:
        """Return the record as things stand."""
        recipe = self.run.recipe
        return RunRecord(
            recipe_name=recipe.name,
            recipe_id=self.run.recipe_id,
            protocol_id=protocol_id(self.data["digest"], recipe.evaluation.distance, recipe.selection)
            if self.data
            else "",
            seed=recipe.seed,
            dataset=recipe.dataset["name"],
            loss=self.run.method,
            backbone=recipe.backbone["name"],
            embedding_dim=self.embedding_dim,
            weights=self.weights,
            status=status,
            reason=reason,
            died=died,
            options=dict(self.run.options),
            metrics={name: value for name, value in metrics.items() if not math.isnan(value)},
            curve=tuple(self.curve),
            centers_left=self.centers_left,
            selected=self.selected,
            seconds={**self.seconds, "total": round(time.perf_counter() - self._start, 3)},
            costs=self.costs,
            checks=self.checks,
            attempts=self.attempts,
            resumed_from=self.resumed_from,
            data=self.data,
            environment={**environment(), "device": self.device, "ranks": self.ranks},
            recipe=recipe.document(),
        )
