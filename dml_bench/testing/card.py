"""A conformance card: what was checked of one loss, with what error, and the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from dml_bench.losses import LOSSES
from dml_bench.testing.checks import CHECKS
from dml_bench.testing.finding import Finding


@dataclass(frozen=True)
class Card:
    """Everything found out about the loss ``key``."""

    key: str
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> str:
        """``failed`` if any check did, ``passed`` if values agree with another form, else ``unverified``."""
        if self.failures:
            return "failed"
        return "passed" if self.of("value") or self.of("identity") else "unverified"

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that went wrong."""
        return tuple(finding for finding in self.findings if not finding.passed)

    def of(self, kind: str) -> tuple[Finding, ...]:
        """Return the findings of one kind, such as ``value`` or ``gradient``."""
        return tuple(finding for finding in self.findings if finding.kind == kind)

    def worst(self, kind: str) -> Finding | None:
        """Return the finding of this kind that comes nearest to its bound, or None if nothing was measured."""
        measured = [finding for finding in self.of(kind) if finding.bound is not None]
        return max(measured, key=lambda finding: finding.share, default=None)


def verify(key: str) -> Card:
    """Run every check on the loss registered as ``key``; a check that raises is a finding that failed.

    Raises:
        OptionError: for an unknown name.
    """
    entry = LOSSES[key]
    findings: list[Finding] = []
    with _one_thread():
        for check in CHECKS:
            try:
                findings.extend(check(entry.name))
            except Exception as error:
                findings.append(Finding("error", check.__name__, False, note=f"{type(error).__name__}: {error}"))
    return Card(entry.name, tuple(findings))


def verify_all(keys: Iterable[str] = ()) -> list[Card]:
    """Return the cards of ``keys``, by default of every registered loss.

    Raises:
        OptionError: for an unknown name, before anything is run.
    """
    entries = [LOSSES[key] for key in keys] or list(LOSSES)
    return [verify(entry.name) for entry in entries]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: batches are tiny, and digits may depend on the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
