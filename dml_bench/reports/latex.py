r"""Printed tables as LaTeX: a fragment to ``\input``, which pdflatex sets as long as it has the characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from dml_bench.reports.printed import TIED_MARK, TIED_MEANING, Cell, Printed


def _maths(chars: str, names: str) -> dict[str, str]:
    return {char: f"$\\{name}$" for char, name in zip(chars, names.split(), strict=True)}


MATHS = (
    _maths("±µ×÷·¬", "pm mu times div cdot neg")
    | _maths("→←↑↓↔⇒", "rightarrow leftarrow uparrow downarrow leftrightarrow Rightarrow")
    | _maths("≥≤≠≈∞†‡√∈", "geq leq neq approx infty dagger ddagger surd in")
    | _maths("αβγδεζηθικλμ", "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu")
    | _maths("νξπρςστυφχψω", "nu xi pi rho varsigma sigma tau upsilon varphi chi psi omega")
    | _maths("ΓΔΘΛΞΠΣΥΦΨΩ", "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega")
    | {"−": "$-$", "°": r"$^{\circ}$", "¹": "$^{1}$", "²": "$^{2}$", "³": "$^{3}$"}
)
TEXTS = {
    **{mark: f"\\{mark}" for mark in "&%#$_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",  # babel makes the bare mark a command in some languages
    "[": "{[}",  # a row that begins with [ or * would be read as an argument of the rule or line end before it
    "]": "{]}",
    "*": "{*}",
    **dict(zip("–—‘’“”…", ("{--}", "{---}", "{`}", "{'}", "{``}", "{''}", r"\ldots{}"), strict=True)),
    **dict(zip("§¶©", (r"\S{}", r"\P{}", r"\copyright{}"), strict=True)),
}
COMMANDS = MATHS | TEXTS
SETTABLE = {chr(code) for code in (*range(0x20, 0x7F), *range(0xC0, 0x100))} - set("ÐðÞþ")
"""What pdflatex sets in its default encoding."""


def to_latex(tables: Sequence[Printed]) -> str:
    r"""Write one ``table`` environment per table, as a fragment to ``\input``; its first lines say what it needs."""
    lines = [line for table in tables for line in _table(table)]
    return "\n".join((*_needs("\n".join(lines)), *lines, ""))


def escape(text: str) -> str:
    """Write any text so that LaTeX prints it as it is, in one line; control characters are blanks."""
    seen = "".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in unicodedata.normalize("NFC", text))
    flat = re.sub(r"(?<![\w-])-(?=\.?\d)", "−", " ".join(seen.split()))
    unjoined = re.sub(r"([-',])(?=\1)", "\\1\0", flat)  # two of them would be set as another mark
    return "".join(COMMANDS.get(char, char) for char in unjoined).replace("\0", "{}")


def _needs(body: str) -> Iterator[str]:
    yield r"% Needs \usepackage{booktabs}."
    odd = sorted(set(body) - SETTABLE - {"\n"})
    if odd:
        codes = ", ".join(f"U+{ord(char):04X}" for char in odd)
        yield f"% Needs lualatex or xelatex, and a font that has {codes}: pdflatex cannot set them."


def _table(table: Printed) -> Iterator[str]:
    layout = "".join("r" if numeric else "l" for numeric in table.numeric)
    yield from (
        r"\begin{table}",
        r"\centering",
        f"\\caption{{{escape(table.title)}}}",
        f"\\begin{{tabular}}{{{layout}}}",
    )
    yield from (r"\toprule", _line([escape(title) for title in table.columns]), r"\midrule")
    yield from (_line([_content(cell) for cell in row]) for row in table.rows)
    yield from (r"\bottomrule", r"\end{tabular}")
    legend = [f"{TIED_MARK}: {TIED_MEANING}."] if table.has_ties else []
    yield from (f"\\par\\smallskip\\raggedright\\footnotesize {escape(note)}\\par" for note in (*table.notes, *legend))
    yield r"\end{table}"


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _content(cell: Cell) -> str:
    text = f"\\textbf{{{escape(cell.text)}}}" if cell.bold else escape(cell.text)
    raised = (escape(TIED_MARK) if cell.tied else "") + escape(cell.letters)
    return text + (f"\\textsuperscript{{{raised}}}" if raised else "")
