"""What stands around the leaderboards: what was run, whether it was fair, what failed, what it was run on."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dml_bench.reports.audit import SEVERITIES, Finding, Severity
from dml_bench.reports.fairness import budget, compared, resolution, tuning
from dml_bench.reports.page.table import Column, Field, Line, Table, number
from dml_bench.reports.summary import Row, Section
from dml_bench.results.record import RunRecord

FACTS: Mapping[str, Callable[[Row], str]] = {
    "training": lambda row: budget(row.runs[0].recipe),
    "tuning": lambda row: tuning(row.runs[0].recipe),
    "images": lambda row: resolution(row) if row.finished else "unknown",
    "network": lambda row: f"{row.backbone}, {row.embedding_dim} dimensions",
}
"""What the rows of a table should have in common."""

FEW = 3
"""Of the places where the same is found, so many are named."""
EVERY = "dml-bench audit names every place."


def headline(records: Sequence[RunRecord], found: Sequence[Section], when: str) -> dict[str, str]:
    """Say in a few facts what was run."""
    runs = [run for section in found for row in section.rows for run in row.runs]
    broken = sum(run.status == "failed" for run in runs)
    trained = {row.loss for section in found for row in compared(section)}
    hours = math.fsum(run.seconds.get("total", 0.0) for run in runs) / 3600
    facts = {
        "recipes": ", ".join(dict.fromkeys(run.recipe_name for run in records)),
        "data sets": ", ".join(dict.fromkeys(section.dataset for section in found)),
        "runs": f"{len(runs)}" + (f", {broken} of them failed" if broken else ""),
        "losses": str(len(trained)),
        "rows": str(sum(len(section.rows) for section in found)),
        "time": f"{hours:.1f} hours of runs" if hours >= 1 else f"{60 * hours:.0f} minutes of runs" if hours else "",
        "when": when,
    }
    return {name: text for name, text in facts.items() if text}


def titled(section: Section) -> list[tuple[str, str]]:
    """Say of a section what its rows share and where they differ, one line per fact of ``FACTS``."""
    lines = [("selection", section.selection)]
    for name, fact in FACTS.items():
        losses: dict[str, set[str]] = defaultdict(set)
        for row in compared(section):
            losses[fact(row)].add(row.loss)
        if len(losses) == 1:
            lines.append((name, f"{next(iter(losses))}, for all"))
        elif losses:
            parts = (f"{text} ({', '.join(sorted(names))})" for text, names in losses.items())
            lines.append((name, f"not the same: {'; '.join(parts)}"))
    return lines


def findings(found: Sequence[Finding]) -> Table:
    """Return what a sceptic finds, the most serious first; what is found alike in several places is one row."""
    columns = (
        *(Column("severity", True, now="ascending"), Column("check", named=True)),
        *(Column("where", named=True, header=True), Column("what", named=True), Column("times", True, "descending")),
    )
    places: dict[tuple[Severity, str, str], list[str]] = defaultdict(list)
    for f in found:
        places[f.severity, f.check, f.message].append(f.where)
    lines = [
        Line(
            (
                Field(severity, SEVERITIES.index(severity)),
                *map(Field, (check, _first(where), message)),
                number(len(where), "d"),
            ),
            severity,
        )
        for (severity, check, message), where in places.items()
    ]
    cut = any(len(where) > FEW for where in places.values())
    return Table("What a sceptic finds", columns, tuple(lines), (), (EVERY,) if cut else ())


def _first(where: Sequence[str]) -> str:
    more = f"; and {len(where) - FEW} more" if len(where) > FEW else ""
    return "; ".join(where[:FEW]) + more


def failed(found: Sequence[Section]) -> Table:
    """Return the runs that failed, with their reasons."""
    titles = ("loss", "options", "data set", "seed", "reason", "recipe")
    columns = tuple(Column(name, name == "seed", named=name != "seed", header=name == "loss") for name in titles)
    lines = []
    for section, row in ((part, row) for part in found for row in part.rows):
        for run in (run for run in row.runs if run.status == "failed"):
            head = (Field(row.loss), Field(row.options), Field(section.dataset), number(run.seed, "d"))
            lines.append(Line((*head, Field(run.reason or "no reason recorded"), Field(run.recipe_id)), "failed"))
    return Table("Runs that failed", columns, tuple(lines))


def environments(records: Sequence[RunRecord]) -> Table:
    """Return what the runs were made with, one row per different environment."""
    counts: dict[str, int] = defaultdict(int)
    for run in records:
        counts[json.dumps(run.environment, sort_keys=True)] += 1
    lines = []
    for text, count in sorted(counts.items(), key=lambda pair: -pair[1]):
        facts = dict(_facts(json.loads(text)))
        lines.append(Line((number(count, "d"), *(Field(facts.get(name, "not recorded")) for name in ENVIRONMENT))))
    columns = tuple(Column(name, named=True, header=not i) for i, name in enumerate(ENVIRONMENT))
    return Table("Environments of the runs", (Column("runs", True, "descending"), *columns), tuple(lines))


ENVIRONMENT = ("processor", "device", "cores", "python", "dml_bench", "code", "packages", "platform")


def _facts(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in environment.items():
        if name == "git":
            modified = " with changes" if value and value["modified"] else ""
            yield "code", f"commit {value['commit'][:12]}{modified}" if value else "installed package"
        elif name == "packages":
            yield name, ", ".join(f"{package} {version}" for package, version in value.items())
        elif name in ENVIRONMENT:
            yield name, str(value)
