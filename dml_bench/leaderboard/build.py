"""Make the page, table, pictures of a leaderboard from its records, once all of them are verified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from dml_bench.errors import ResultsError
from dml_bench.leaderboard.entries import entries
from dml_bench.leaderboard.text import readme, section_key
from dml_bench.leaderboard.verify import verify
from dml_bench.reports.page import to_html
from dml_bench.reports.plots import draw, stem
from dml_bench.reports.report import publish
from dml_bench.reports.standings import lines
from dml_bench.reports.summary import Section, sections
from dml_bench.reports.text import to_csv
from dml_bench.results.record import RunRecord

EACH = {
    "dots": "Metrics with their 95 percent intervals",
    "pareto": "Accuracy against training time",
    "centers-sweep": "Accuracy against the number of centers, with the regulariser and without",
    "centers": "How many centers of a class survive",
}
"""Pictures of each section: charts of numbers alone, as some data sets' images and maps must not be published."""
ALL = {"critical-difference": "Mean ranks over data sets; losses joined by a bar are not told apart"}
"""Pictures of all sections together."""
NOTES = "NOTES.md"
"""The file of ``results`` whose text stands below the first table, if there is one."""


def build(results: Path) -> list[Path]:
    """Write ``README.md``, ``leaderboard.csv``, ``leaderboard.html`` and the pictures of a leaderboard.

    Args:
        results: the folder that holds ``records``, and maybe ``NOTES.md``.

    Returns:
        The files written.

    Raises:
        ResultsError: naming everything that is wrong with the records; then nothing is written.
    """
    found = entries(results)
    problems = verify(results, found)
    if problems:
        raise ResultsError("\n".join([f"{results}: not built, {len(problems)} problems:", *problems]))
    records = [*found.values()]
    parts = sections(records)
    pictures = dict(draw(records, (*EACH, *ALL)))
    files = {results / "pictures" / name: content for name, content in pictures.items()}
    files[results / "leaderboard.csv"] = to_csv(pd.DataFrame(lines(parts))).encode()
    notes = (results / NOTES).read_text("utf-8") if (results / NOTES).exists() else ""
    text = readme(parts, _recipes(results, found), _captions(parts, pictures), notes)
    files[results / "README.md"] = text.encode()
    files[results / "leaderboard.html"] = to_html(records, pictures).encode()
    for old in (results / "pictures").glob("*"):
        if old not in files and old.suffix in (".png", ".svg"):
            old.unlink()
    return [publish(path, content) for path, content in files.items()]


def _recipes(results: Path, found: Mapping[Path, RunRecord]) -> dict[str, str]:
    """Return the recipe file of each row, by recipe id: that of its first seed."""
    ordered = sorted(found.items(), key=lambda item: -item[1].seed)
    return {run.recipe_id: (path / "recipe.yaml").relative_to(results.resolve()).as_posix() for path, run in ordered}


def _captions(parts: Sequence[Section], drawn: Mapping[str, bytes]) -> dict[str, list[tuple[str, str]]]:
    """Return paths and descriptions of the pictures that were drawn, by section; those of all are of none."""
    found = {section_key(part): {stem(kind, part, parts): what for kind, what in EACH.items()} for part in parts}
    return {
        key: [(f"pictures/{name}.svg", what) for name, what in named.items() if f"{name}.svg" in drawn]
        for key, named in {**found, "": ALL}.items()
    }
