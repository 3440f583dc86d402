from __future__ import annotations

import csv
import io
import re
import subprocess
import sys

import pytest
from rich.console import Console

from dml_bench.reports.markdown import escape, printable
from dml_bench.reports.summary import summary_table
from dml_bench.reports.text import print_table, to_csv, to_markdown


def cells(markdown: str) -> list[list[str]]:
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def printed(records, width: int, terminal: bool) -> str:
    stream = io.StringIO()
    print_table(Console(file=stream, width=width, force_terminal=terminal, color_system=None), records)
    return stream.getvalue()


def test_csv_keeps_every_digit_and_leaves_unknown_numbers_empty(make):
    text = to_csv(summary_table([make(metrics={"recall@1": 0.1 + 0.2})]))
    header, line = csv.reader(io.StringIO(text))
    row = dict(zip(header, line, strict=True))
    assert float(row["recall@1_mean"]) == 0.1 + 0.2
    assert row["recall@1_std"] == ""
    assert "\r" not in text


def test_csv_survives_a_reader_whatever_the_names(make):
    name = 'a|b, "c"\nd & <e> ü_λ'
    (_, line) = csv.reader(io.StringIO(to_csv(summary_table([make(dataset=name, options={"x": name})]))))
    assert line[0] == name
    assert line[3] == f"x={name}"


def test_markdown_table_by_hand(make):
    runs = [make(seed=s, metrics={"recall@1": v, "nmi": 0.5}) for s, v in enumerate((0.80, 0.82))]
    runs += [make("lucky", metrics={"recall@1": 0.9, "nmi": 0.6})]
    runs += [make("untrained", metrics={"recall@1": 0.99, "nmi": 0.2}, seconds={})]
    assert cells(to_markdown(runs)) == [
        ["loss", "recall@1", "nmi", "seeds", "train s"],
        ["---", "---:", "---:", "---:", "---:"],
        ["lucky", "90.0", "60.0", "n=1, no claim", "6.0"],
        ["arcface", "**81.0 ± 1.4**", "50.0 ± 0.0", "2", "6.0"],
        ["untrained", "99.0", "20.0", "1", "–"],
    ]


def test_ties_as_printed_are_all_bold(make):
    values = {"arcface": 0.81249, "softtriple": 0.81151, "am_softmax": 0.81149}
    runs = [make(loss, seed, metrics={"recall@1": v}) for loss, v in values.items() for seed in (0, 1)]
    assert [row[1] for row in cells(to_markdown(runs))[2:]] == ["**81.2 ± 0.0**", "**81.2 ± 0.0**", "81.1 ± 0.0"]


def test_nothing_is_bold_where_all_rows_have_one_seed(make):
    table = to_markdown([make(), make("softtriple", metrics={"recall@1": 0.7})])
    assert "**" not in table
    assert [row[2] for row in cells(table)[2:]] == ["n=1, no claim"] * 2


def test_sections_never_mix_protocols(make):
    text = to_markdown([make(seed=s) for s in (0, 1)] + [make("softtriple", s, protocol_id="p1") for s in (0, 1)])
    assert re.findall(r"^## .*", text, re.M) == [
        "## glyphs: protocol p0, convnet, 64 dimensions",
        "## glyphs: protocol p1, convnet, 64 dimensions",
    ]
    assert text.count("**80.0 ± 0.0**") == 2


def test_what_varies_becomes_a_column(make):
    runs = [make(recipe_id=str(d), embedding_dim=d, options={"scale": d}) for d in (64, 128)]
    table = cells(to_markdown(runs))
    assert table[0][:3] == ["loss", "options", "embedding_dim"]
    assert table[2][1:3] == ["scale=64", "64"]


def test_failed_runs_are_listed_with_their_reason(make):
    failed = [make(seed=s, status="failed", reason="loss\nis <nan>", metrics={}) for s in (1, 2)]
    text = to_markdown([make(), *failed])
    assert "| 1 of 3 ok, no claim |" in text
    assert "- arcface, seed 1 2: loss is &lt;nan>" in text


def test_restart_spread_is_a_note_not_a_column(make):
    text = to_markdown([make(metrics={"recall@1": 0.8, "nmi": 0.5, "nmi_restart_std": 0.004})])
    assert cells(text)[0] == ["loss", "recall@1", "nmi", "seeds", "train s"]
    assert "k-means ± 0.4 points" in text


def test_names_cannot_break_the_table(make):
    name = "a|b\nc<d>&e*f*_g_ am_softmax `ü` \\"
    (_, _, row) = cells(to_markdown([make(name, options={"x": "1|2"})]))
    assert row[0] == r"a\|b c&lt;d>&amp;e\*f\*\_g\_ am_softmax \`ü\` \\"
    assert row[1] == r"x=1\|2"
    assert len(row) == 5


def test_github_reads_no_maths_and_no_struck_text():
    assert escape("$x^2$ a~b~ a_b $") == r"\$x^2\$ a\~b\~ a_b \$"


def test_control_characters_are_written_out():
    assert escape("a\x1b[31mb\nc") == r"a\\x1b\[31mb c"
    assert printable("a\x1b[31m\nb\u202ec 👩\u200d👧 ü") == "a\\x1b[31m\\x0ab\\u202ec 👩\u200d👧 ü"


def test_terminal_gets_whole_numbers_that_fit(quickstart):
    text = printed(quickstart, 100, terminal=True)
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    assert re.search(r"^multi_similarity +\d\d\.\d ± \d\.\d .* 2 +6\.0 *$", text, re.M)
    assert "Too narrow to show recall@4, recall@8" in text


def test_long_options_fold_in_a_terminal_but_not_in_a_file(options_grid):
    narrow, plain = printed(options_grid, 100, terminal=True), printed(options_grid, 80, terminal=False)
    assert max(map(len, narrow.splitlines())) <= 100
    assert "power: 1, minimum: 5}, training.epochs=40" not in narrow
    rows = [line for line in plain.splitlines() if line.startswith(("softtriple", "arcface", "a_softmax"))]
    assert len(rows) == 12 + 4 + 1
    assert len({len(line) for line in rows}) == 1
    assert "Too narrow" not in plain
    assert "\x1b" not in plain


@pytest.mark.parametrize("terminal", [True, False])
def test_square_brackets_are_no_markup(make, terminal):
    assert "margins=[red]" in printed([make(options={"margins": ["red"]})], 100, terminal)


def test_tables_need_neither_torch_nor_matplotlib():
    code = (
        "import sys, dml_bench.reports.summary, dml_bench.reports.text, dml_bench.reports.report\n"
        "print([m for m in ('torch', 'faiss', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_runs_of_different_versions_are_named_below_the_table(make):
    old = make(seed=0, environment={"dml_bench": "0.1", "packages": {"torch": "2.6"}, "device": "cpu"})
    new = make(seed=1, environment={"dml_bench": "0.1", "packages": {"torch": "2.13"}, "device": "cpu"})
    text = to_markdown([old, new])
    assert "These runs differ in torch: 2.13, 2.6." in text
    assert "differ in" not in to_markdown([old])
