"""The words around the tables of a leaderboard: what was measured, where, at what cost, and what it does not show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dml_bench.reports.markdown import escape, printed_markdown
from dml_bench.reports.printed import Cell, Printed
from dml_bench.reports.standings import across, claims, tables
from dml_bench.reports.summary import Section
from dml_bench.results.record import RunRecord

METRICS = ("recall@1", "map@r", "nmi")
"""Columns of the tables; the CSV file has all metrics."""

HEAD = """# Leaderboard

One table per data set and protocol, made by `dml-bench leaderboard build` from the records in [`records`](records) and
from nothing else: no number here was typed. Every record was checked (`dml-bench leaderboard verify`): its recipe makes
its ids, its values per query make its metrics; nmi, costs, loss curves, centers and hardware stand as the record tells
them. Where the data are at hand, any row can be run again: `dml-bench reproduce RECIPE_ID`.
Metrics are in percent, means over seeds. The same rows to sort and filter, with all metrics, in
[`leaderboard.html`](leaderboard.html), and as numbers in [`leaderboard.csv`](leaderboard.csv).

"""


def readme(
    found: Sequence[Section],
    recipes: Mapping[str, str],
    pictures: Mapping[str, Sequence[tuple[str, str]]],
    notes: str = "",
) -> str:
    """Write the page of a leaderboard in Markdown.

    Args:
        found: sections of the records.
        recipes: recipe id to the path of its recipe file.
        pictures: by ``section_key``, paths of pictures and what they show; those of all sections under an empty key.
        notes: what else is to be said, in Markdown: what the numbers do not show, how to add a row.
    """
    parts = [HEAD, *_contents(found), notes and f"{notes.strip()}\n\n", *_where_and_cost(found)]
    for section in found:
        parts += [_section(section, recipes), *_shown(pictures.get(section_key(section), ()))]
    general = across(found, METRICS[:1])
    parts += [printed_markdown(general), "\n", *_shown(pictures.get("", ()))]
    return "".join(parts).rstrip() + "\n"


def section_key(section: Section) -> str:
    """Return what names a section in file names."""
    return f"{section.dataset}-{section.protocol_id}"


def board(section: Section, recipes: Mapping[str, str]) -> list[Printed]:
    """Return the table of one section, its recipe ids leading to their files."""
    shown = [name for name in METRICS if name in section.metrics]
    return [replace(table, rows=tuple(_linked(table, recipes))) for table in tables([section], shown)]


def _linked(table: Printed, recipes: Mapping[str, str]) -> Iterator[tuple[Cell, ...]]:
    place = table.columns.index("recipe")
    for row in table.rows:
        cell = replace(row[place], link=recipes[row[place].text])
        yield (*row[:place], cell, *row[place + 1 :])


def _section(section: Section, recipes: Mapping[str, str]) -> str:
    data = section.rows[0].runs[0].data
    facts = [f"{part}: {data[part]['images']:,} images of {data[part]['classes']} classes" for part in _parts(data)]
    facts += [f"{data['queries']:,} queries"] if "queries" in data else []
    said = "\n".join(f"{escape(line)}\n" for line in claims(section))
    return f"{printed_markdown(board(section, recipes))}\nData: {'; '.join(facts)}.\n\n{said}\n"


def _parts(data: Mapping[str, Any]) -> list[str]:
    return [name for name in ("train", "test") if isinstance(data.get(name), Mapping)]


def _shown(pictures: Iterable[tuple[str, str]]) -> Iterator[str]:
    for path, what in pictures:
        yield f"![{escape(what)}]({path})\n\n"


def _contents(found: Sequence[Section]) -> Iterator[str]:
    yield "| data set | protocol | losses | rows | runs | best | recall@1 | raw inputs |\n"
    yield "| --- | --- | ---: | ---: | ---: | --- | ---: | ---: |\n"
    for section in found:
        trained = [row for row in section.rows if not row.is_reference and row.finished]
        raw = [row.mean(METRICS[0]) for row in section.rows if row.loss in ("raw_pixels", "raw_features")]
        runs = sum(len(row.runs) for row in section.rows)
        best = trained[0] if trained else section.rows[0]
        cells = [
            section.dataset,
            section.protocol_id,
            len({row.loss for row in trained}),
            len(trained),
            runs,
            best.loss,
        ]
        cells += [_percent(best.mean(METRICS[0])), _percent(raw[0]) if raw else "–"]
        yield f"| {' | '.join(escape(str(cell)) for cell in cells)} |\n"
    yield "\nThe best is the first by its mean; whether it is told apart from the others stands below each table.\n\n"


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def _where_and_cost(found: Sequence[Section]) -> Iterator[str]:
    runs = [run for section in found for row in section.rows for run in row.finished]
    yield "## Hardware and cost\n\n"
    for (where, versions), many in Counter((_hardware(run), _versions(run)) for run in runs).most_common():
        yield f"- {many} runs: {escape(where)}; {escape(versions)}\n"
    hours = math.fsum(run.seconds.get("total", 0.0) for run in runs) / 3600
    trained = math.fsum(run.seconds.get("train", 0.0) for run in runs) / 3600
    yield (
        f"- {hours:.1f} hours of runs in all, {trained:.1f} of them training, each on one thread and beside others; "
        "a machine with nothing else to do needs less.\n\n"
    )


def _hardware(run: RunRecord) -> str:
    known = run.environment
    threads = (run.recipe.get("training") or {}).get("threads", 1)
    return f"{known.get('processor')}, {known.get('cores')} cores, device {known.get('device')}, {threads} thread a run"


def _versions(run: RunRecord) -> str:
    known, torch = run.environment, run.environment.get("packages", {}).get("torch")
    git = known.get("git") or {}
    state = f" (commit {git['commit'][:12]}{', modified' * bool(git.get('modified'))})" if git else ""
    return f"dml_bench {known.get('dml_bench')}{state}, Python {known.get('python')}, torch {torch}"
