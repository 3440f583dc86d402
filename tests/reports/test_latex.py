from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dml_bench.reports.latex import COMMANDS, SETTABLE, escape, to_latex
from dml_bench.reports.printed import Cell, Printed

HOSTILE = (
    r"\input{/etc/passwd} \\ & % # $ _ { } ~ ^ < > | \" ' `",
    "[2cm] row that begins like an argument",
    "* a -- b --- c ''d'' ``e`` ,,f,, ?`g",
    "two\nlines\r\n\n and a paragraph",
    "}\\end{tabular}\\end{table}",
    "^^41 \x00\x1b\x7f \ud800",
    "é ñ ß Å e\u0301 ÿ Ø æ",
    "".join(sorted(char for char in COMMANDS)),
)


def table(*names: str, **marks) -> Printed:
    rows = tuple((Cell(name, **marks), Cell("80.1 ± 0.3", **marks), Cell("-0.5")) for name in names)
    return Printed("a_title & [more]", ("loss_%", "recall@1", "[ari]"), (False, True, True), rows, ("50% of #1 note",))


def test_a_table_reads_as_a_person_would_write_it():
    text = to_latex([table("soft_triple", bold=True, letters="ab")])
    assert text.splitlines() == [
        r"% Needs \usepackage{booktabs}.",
        r"\begin{table}",
        r"\centering",
        r"\caption{a\_title \& {[}more{]}}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"loss\_\% & recall@1 & {[}ari{]} \\",
        r"\midrule",
        r"\textbf{soft\_triple}\textsuperscript{ab} & \textbf{80.1 $\pm$ 0.3}\textsuperscript{ab} & $-$0.5 \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip\raggedright\footnotesize 50\% of \#1 note\par",
        r"\end{table}",
    ]


def test_the_mark_of_a_tie_is_explained_below_its_table_only():
    tied, plain = to_latex([table("a", tied=True), table("b")]).split(r"\end{table}")[:2]
    assert r"a\textsuperscript{$\dagger$} &" in tied and "$\\dagger$: not told apart from the best." in tied
    assert "dagger" not in plain


@given(st.text(max_size=30))
def test_an_escaped_text_holds_no_command_of_its_own(text):
    rest = escape(text)
    for command in sorted({*COMMANDS.values(), "{}"}, key=len, reverse=True):
        rest = rest.replace(command, "")
    assert not re.search(r"[\\{}$&#^_~%\[\]*\n]", rest)


@given(st.text(st.sampled_from("\\&%#$_{}~^<>|\"[]*' \n-.,5aé±→"), max_size=20))
def test_an_escaped_text_can_be_read_back(text):
    back = {command: char for char, command in COMMANDS.items()} | {"{}": ""}
    tokens = re.compile("|".join(map(re.escape, sorted(back, key=len, reverse=True))) + "|.")
    read = "".join(back.get(token, token) for token in tokens.findall(escape(text)))
    assert read.replace("−", "-") == " ".join(text.split())


def test_a_character_that_pdflatex_lacks_is_left_and_announced():
    text = to_latex([table("日本 ł")])
    assert "日本 ł &" in text
    assert text.splitlines()[1].startswith("% Needs lualatex or xelatex")
    assert "U+0142, U+65E5, U+672C" in text.splitlines()[1]
    assert "xelatex" not in to_latex([table(*HOSTILE)])


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_pdflatex_sets_hostile_names(tmp_path):
    latin = "".join(sorted(SETTABLE))
    text = " ".join((*HOSTILE, latin))
    around = Printed(text, HOSTILE, (False,) * len(HOSTILE), (), (*HOSTILE, ""))
    tables = [table(*HOSTILE, latin, bold=True, tied=True, letters=text), table(), around]
    (tmp_path / "tables.tex").write_text(to_latex(tables), encoding="utf-8")
    page = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{tables}\listoftables\end{document}"
    (tmp_path / "page.tex").write_text(page, encoding="utf-8")
    for _ in range(2):  # the second run reads the titles from the list of tables
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "page.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    log = (tmp_path / "page.log").read_text(encoding="utf-8", errors="replace")
    assert "Missing character" not in log and "\n!" not in log
    assert (tmp_path / "page.pdf").stat().st_size > 5000
