"""What a sceptic asks of a table of results: one function per check, each from run records to findings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dml_bench.reports.fairness import budget, compared, resolution, training_part, tuning, unequal, unequal_images
from dml_bench.reports.falling import FALL, still_falling
from dml_bench.reports.summary import Row, Section, sections, selected_by
from dml_bench.results.record import RunRecord

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""Most serious first: numbers that mean something else; a comparison that is not fair or not sure; what to know."""

SEEDS = 3
"""Fewer say nothing of the spread."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or to be known.

    Attributes:
        severity: see ``SEVERITIES``.
        check: which check found it.
        where: data set, and row or run.
        message: what is wrong, with the numbers.
    """

    severity: Severity
    check: str
    where: str
    message: str


@dataclass(frozen=True)
class DataNow:
    """What the data that runs were made with is like now.

    Attributes:
        digest: of the content; empty if the data is not here.
        reason: why it is not.
        test: images of the test part.
        duplicates: of these, how many have a near-duplicate in the training part; None if they are no images.
        example: one pair of them, in words.
    """

    digest: str = ""
    reason: str = ""
    test: int = 0
    duplicates: int | None = None
    example: str = ""


Look = Callable[[RunRecord], DataNow]
Check = Callable[[Sequence[Section]], Iterator[Finding]]


def audit(records: Sequence[RunRecord], look: Look | None = None) -> list[Finding]:
    """Return what every check finds, the most serious first.

    Args:
        records: the runs.
        look: gives the state of the data of a run, and is called once per data set and its options; None if nobody
            shall look.

    Raises:
        ResultsError: when two different records claim to be the same run.
    """
    found = sections(records)
    findings = [finding for check in CHECKS.values() for finding in check(found)]
    findings += check_data(found, look)
    return sorted(dict.fromkeys(findings), key=_order)


def selected_on_test(found: Sequence[Section]) -> Iterator[Finding]:
    """Find rows whose network was chosen by its score on the test classes."""
    for section, row in _trained(found):
        chosen = [run for run in row.runs if (run.recipe.get("selection") or {}).get("name") == "test_oracle"]
        if chosen:
            many = "" if len(chosen) == len(row.runs) else f", {len(chosen)} of {len(row.runs)} runs"
            yield Finding("error", "selected-on-test", _where(section, row), selected_by(chosen[0]) + many)


def unequal_budgets(found: Sequence[Section]) -> Iterator[Finding]:
    """Find losses of one table that were trained or tuned for longer than others."""
    for section in found:
        settings = unequal(section, lambda row: budget(row.runs[0].recipe))
        yield from (Finding("warning", "budgets", section.dataset, f"training differs: {text}") for text in settings)
        for text in unequal(section, lambda row: tuning(row.runs[0].recipe)):
            yield Finding("warning", "budgets", section.dataset, f"tuning differs: {text}")
        if not settings and (text := unequal_images(section)):
            yield Finding("warning", "budgets", section.dataset, text)


def unequal_networks(found: Sequence[Section]) -> Iterator[Finding]:
    """Find losses of one table with other dimensions or backbones, and of one data set with other image sizes."""
    for section in found:
        facts: dict[str, Callable[[Row], Hashable]] = {
            "dimensions": lambda row: row.finished[0].embedding_dim,
            "backbones": lambda row: row.backbone + ("" if row.finished[0].weights else ", random weights"),
        }
        for what, fact in facts.items():
            for text in unequal(section, fact):
                yield Finding("warning", what, section.dataset, f"they differ across losses: {text}")
    for section in _by_dataset(found):
        for text in unequal(section, resolution):
            yield Finding("warning", "resolutions", section.dataset, f"image sizes differ across losses: {text}")


def few_seeds(found: Sequence[Section]) -> Iterator[Finding]:
    """Find rows that rest on fewer than three seeds."""
    for section, row in _trained(found):
        count = len(row.finished)
        if 0 < count < SEEDS:
            seeds = "1 seed" if count == 1 else f"{count} seeds"
            yield Finding("warning", "seeds", _where(section, row), f"{seeds}; below {SEEDS} the spread is not known")


def failed_runs(found: Sequence[Section]) -> Iterator[Finding]:
    """Find rows whose numbers leave out runs that failed, or lack seeds that others of their recipe have."""
    for section, row in _trained(found):
        failed = [run for run in row.runs if run.status == "failed"]
        for reason in dict.fromkeys(run.reason for run in failed):
            seeds = ", ".join(str(run.seed) for run in failed if run.reason == reason)
            what = f"seed {seeds} failed and is left out: {reason or 'no reason recorded'}"
            yield Finding("warning", "failed-runs", _where(section, row), what)
    for section in found:
        grids: dict[str, set[int]] = defaultdict(set)
        for row in compared(section):
            grids[row.runs[0].recipe_name] |= {run.seed for run in row.runs}
        for row in compared(section):
            if missing := sorted(grids[row.runs[0].recipe_name] - {run.seed for run in row.runs}):
                what = f"seed {', '.join(map(str, missing))} is missing, which other rows have"
                yield Finding("warning", "failed-runs", _where(section, row), what)


def still_centers(found: Sequence[Section]) -> Iterator[Finding]:
    """Find losses some of whose centers are where they were before training."""
    for section, row in _trained(found):
        counts = [run.checks for run in row.finished if run.checks.get("centers_still")]
        if counts:
            share = " to ".join(
                dict.fromkeys(f"{100 * end:.0f} %" for end in _ends(c["centers_still"] / c["centers"] for c in counts))
            )
            what = f"{share} of the centers never moved, in {len(counts)} of {len(row.finished)} runs"
            yield Finding("warning", "still-centers", _where(section, row), what)


def partial_data(found: Sequence[Section]) -> Iterator[Finding]:
    """Find data sets that are not whole, and training sets that were changed."""
    differs = {section.dataset: unequal(section, training_part) for section in _by_dataset(found)}
    for dataset, texts in differs.items():
        for text in texts:
            yield Finding("warning", "partial-data", dataset, f"the training part differs across losses: {text}")
    for section in found:
        runs = [run for row in section.rows for run in row.runs]
        partial = [run for run in runs if run.recipe.get("dataset", {}).get("partial")]
        if partial:
            whose = "" if len(partial) == len(runs) else f" ({', '.join(sorted({run.loss for run in partial}))})"
            what = f"a partial copy{whose}: not comparable with figures on the whole data set"
            yield Finding("warning", "partial-data", section.dataset, what)
        changed = {part["name"] for run in runs for part in run.recipe.get("subset") or ()}
        if changed and not differs.get(section.dataset):
            what = f"trained on a changed training part: {', '.join(sorted(changed))}"
            yield Finding("note", "partial-data", section.dataset, what)


def several_data(found: Sequence[Section]) -> Iterator[Finding]:
    """Find runs that saw different data where their recipes name the same."""
    versions: dict[str, dict[str, list[RunRecord]]] = defaultdict(lambda: defaultdict(list))
    for run in (run for section in found for row in section.rows for run in row.runs if run.data):
        versions[_data_key(run)][run.data["digest"]].append(run)
    for several in versions.values():
        if len(several) > 1:
            seen = [f"{digest[:12]} ({_runs_of(runs)})" for digest, runs in several.items()]
            what = f"runs saw {len(several)} versions of the data: {', '.join(seen)}"
            yield Finding("error", "data-digest", next(iter(several.values()))[0].dataset, what)


def unfinished_kmeans(found: Sequence[Section]) -> Iterator[Finding]:
    """Find rows whose NMI rests on clusterings that were stopped before they stood still."""
    for section in found:
        for row in section.rows:
            stopped = [run.checks["kmeans_unconverged"] for run in row.finished if "kmeans_unconverged" in run.checks]
            if sum(stopped):
                what = f"{sum(stopped)} k-means restarts still changed when their iterations were used up"
                yield Finding("warning", "k-means", _where(section, row), what)


def mixed_machines(found: Sequence[Section]) -> Iterator[Finding]:
    """Find tables whose runs were made with several versions of the code, several torch, or on several devices."""
    for section in found:
        runs = [run for row in section.rows for run in row.runs if run.environment]
        for name in ("dml_bench", "torch", "device"):
            values = {str({**run.environment, **run.environment.get("packages", {})}.get(name)) for run in runs}
            if len(values) > 1:
                yield Finding(
                    "note", "machines", section.dataset, f"runs differ in {name}: {', '.join(sorted(values))}"
                )


def undertrained(found: Sequence[Section]) -> Iterator[Finding]:
    """Find rows with runs whose loss still fell by more than 2 % in the last tenth of training."""
    for section, row in _trained(found):
        if still_falling(row):
            many = f"{still_falling(row)} of {len(row.finished)} runs"
            what = (
                f"the training loss of {many} still fell by more than {100 * FALL:.0f} % in the last tenth of training"
            )
            yield Finding("note", "undertrained", _where(section, row), what)


def not_recorded(found: Sequence[Section]) -> Iterator[Finding]:
    """Say of how many runs the record is too old to tell what some checks ask for."""
    runs = [run for section in found for row in section.rows for run in row.finished]
    old = sum("kmeans_unconverged" not in run.checks for run in runs)
    if old:
        what = f"{old} of {len(runs)} records do not say whether k-means converged and centers moved"
        yield Finding("note", "not-checked", "records", what)


CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        *(selected_on_test, unequal_budgets, unequal_networks, few_seeds, failed_runs, still_centers),
        *(partial_data, several_data, unfinished_kmeans, mixed_machines, undertrained, not_recorded),
    )
}
"""Every check that records alone decide; ``check_data`` needs the data besides."""


def check_data(found: Sequence[Section], look: Look | None) -> Iterator[Finding]:
    """Compare the recorded digests with the data as it is now, and look for test images that training has seen."""
    seen: dict[str, DataNow] = {}
    for section in found:
        runs = [run for row in section.rows for run in row.runs if run.data]
        for key, run in {f"{_data_key(run)} {run.data['digest']}": run for run in runs}.items():
            if look is None:
                yield Finding("note", "not-checked", section.dataset, "data: nobody looked at it")
                break
            now = seen[key] = seen[key] if key in seen else look(run)
            if not now.digest:
                yield Finding("note", "not-checked", section.dataset, f"data not here: {now.reason}")
                continue
            if now.digest != run.data["digest"]:
                versions = f"{now.digest[:12]} not {run.data['digest'][:12]}"
                what = f"the data on this machine is not what the runs saw: {versions}"
                yield Finding("error", "data-digest", section.dataset, what)
            if now.duplicates:
                share = f"{now.duplicates} of {now.test} test images ({100 * now.duplicates / now.test:.2g} %)"
                what = f"{share} have a near-duplicate in the training part, such as {now.example}"
                yield Finding("warning", "near-duplicates", section.dataset, what)


def _order(finding: Finding) -> tuple[int, str, str]:
    return SEVERITIES.index(finding.severity), finding.check, finding.where


def _trained(found: Iterable[Section]) -> Iterator[tuple[Section, Row]]:
    return ((section, row) for section in found for row in compared(section))


def _by_dataset(found: Iterable[Section]) -> list[Section]:
    """Join what was trained on one data set, whatever the protocol."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for section, row in _trained(found):
        rows[section.dataset].append(row)
    return [Section(dataset, "", tuple(several)) for dataset, several in rows.items()]


def _where(section: Section, row: Row) -> str:
    name = ", ".join(filter(None, (row.loss, row.options)))
    return f"{section.dataset}: {name} ({row.runs[0].recipe_id})"


def _data_key(run: RunRecord) -> str:
    """Tell data sets apart as recipes do, by name, options and subset."""
    return f"{run.dataset} {run.recipe.get('dataset')} {run.recipe.get('subset')}"


def _runs_of(runs: Sequence[RunRecord]) -> str:
    return f"{len(runs)} run{'s' * (len(runs) != 1)} of {', '.join(sorted({run.loss for run in runs}))}"


def _ends(values: Iterable[float]) -> tuple[float, float]:
    found = list(values)
    return min(found), max(found)
