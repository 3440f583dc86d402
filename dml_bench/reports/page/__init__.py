"""The report as one page that needs no network: tables that sort and filter, recipes to copy, and pictures."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dml_bench.reports.audit import audit
from dml_bench.reports.page.facts import environments, failed, findings, headline, titled
from dml_bench.reports.page.leaderboard import leaderboard
from dml_bench.reports.page.pictures import shown
from dml_bench.reports.page.published import published
from dml_bench.reports.page.recipes import packed
from dml_bench.reports.page.table import of_printed
from dml_bench.reports.standings import across, check_names, tables
from dml_bench.reports.summary import sections
from dml_bench.results.record import RunRecord

ROOM = "dml_bench.reports.page"


def to_html(
    records: Sequence[RunRecord],
    pictures: Mapping[str, bytes] | None = None,
    *,
    galleries: Mapping[str, bytes] | None = None,
    metrics: Sequence[str] = (),
    by: Sequence[str] = (),
    mixed: bool = False,
    when: str = "",
) -> str:
    """Write the page: a leaderboard per data set and protocol, pictures, published figures, findings, environments.

    It loads nothing, and a policy in it forbids the browser to. Names that look like markup stay text.

    Args:
        records: the runs, at least one.
        pictures: file name to content, as ``plots.draw`` yields them; of one name the smaller kind is shown.
        galleries: more pictures, such as of images that were found.
        metrics: which to show; all if there are none.
        by: which of ``standings.BY`` are columns even if all rows agree.
        mixed: whether a table of the rows of all protocols comes first.
        when: when the runs, or the page, were made; the same records give the same page otherwise.

    Raises:
        DmlBenchError: for a metric that no run has, or an unknown name in ``by``.
        ResultsError: when two different records claim to be the same run, or a picture is of an unknown kind.
    """
    found = sections(records)
    check_names(found, metrics, by)
    beside, elsewhere = shown({**(pictures or {}), **(galleries or {})}, found)
    style, script = (files(ROOM).joinpath("templates", name).read_text("utf-8") for name in ("style.css", "page.js"))
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            style=Markup(style),
            script=Markup(script),
            hashes={"style": _hash(style), "script": _hash(script)},
            headline=headline(records, found, when),
            mixed=[of_printed(table) for table in (tables(found, metrics, by, mixed) if mixed else ())],
            boards=[
                (leaderboard(s, metrics, by), titled(s), pictures) for s, pictures in zip(found, beside, strict=True)
            ],
            across=[of_printed(table) for table in across(found, metrics)],
            pictures=elsewhere,
            published=published(found),
            findings=findings(audit(records)),
            failed=failed(found),
            environments=environments(records),
            recipes=packed(found),
        )
    )


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader(ROOM), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["breakable"] = _breakable
    return made


def _breakable(text: str) -> Markup:
    """Let a line end behind an underscore, of which names have many, rather than in a word."""
    return Markup("_<wbr>").join(text.split("_"))


def _hash(text: str) -> str:
    """Name a style or script to the policy that lets it in and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
