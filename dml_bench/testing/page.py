"""Cards as text: a table for the terminal, and the page that is published."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from dml_bench.losses import LOSSES
from dml_bench.testing import vectors
from dml_bench.testing.card import Card
from dml_bench.testing.reference import has_reference

ERRORS = ("value", "gradient", "float32")
COLUMNS = ("loss", "value error", "gradient error", "float32 error", "agrees with", "differs", "verdict")

LIBRARY = "pytorch-metric-learning"

LADDERS = {"value": (1e-11, 1e-9, 1e-6), "gradient": (1e-8, 1e-6, 1e-4), "float32": (1e-5, 1e-4, 1e-3)}
SAFETY = 20
"""Published magnitudes hold on any machine: the first rung that is this many times the error measured."""

HEAD = """# Conformance of the losses

Written by `dml-bench losses verify --markdown results/losses.md`; `dml-bench losses verify` prints the digits.

Every loss is compared in float64 with plain loops over Python numbers that share no code with it, on balanced,
unbalanced, tiny and one-class batches and, where a loss has centers, at 0 and 180 degrees to them. It is compared with
test vectors too: inputs with the value and the lengths of the gradients, which ship with the package; other code that
has the same value is named below. So are the losses that it must equal, and the class of pytorch-metric-learning. The
scores of the classes, batches of pixels, and what a loss keeps up from step to step and epoch to epoch are checked
alike.

An error is the largest over all options tried, relative where the value exceeds 1, otherwise absolute. `value error`
is that against the plain loops in float64. `gradient error` is that against finite differences in float64, and includes
their own. `float32 error` is that of the value from float32 and bfloat16 embeddings against float64. Bounds are
20 times what was measured, rounded up, so that they hold on any machine. Angular margins at exactly 0 and 180 degrees
are compared to 1e-5, because the plain loops take the angle from its cosine; tests hold them to 1e-9 against angles
that are known. Of `proxy`, sampled_classes draws classes at random, so that it has tests of its own instead.

`agrees with` lists the plain loops, test vectors, other losses, and pytorch-metric-learning (PML) with the options
stated below. `differs` says whether the loss knowingly differs from its paper, whether it is an interpretation where
the paper leaves something open, and whether the class of PML differs. `unverified` in place of `passed` would mean
that nothing independent says what the value should be.
"""


def markdown(cards: Sequence[Card]) -> str:
    """Write the page; the same on every machine, for it tells magnitudes."""
    lines = [HEAD, f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for card in cards:
        lines.append(f"| {' | '.join(_row(card, f'[`{card.key}`](#{card.key})', _magnitude))} |")
    for card in cards:
        lines += ["", f"## {card.key}", "", *(f"- {line}" for line in details(card))]
    return "\n".join(lines) + "\n"


def details(card: Card) -> list[str]:
    """Say in sentences what a card's loss agrees with, deviates from and failed at."""
    return [
        *(["Agrees with plain loops over Python numbers."] if has_reference(card.key) else []),
        *(f"Has the value of the test vector {vector}{_sources(vector)}." for vector in vectors.of(card.key)),
        *(f"Equals another loss: {finding.what}." for finding in card.of("identity") if finding.passed),
        *(f"Has {finding.what}." for finding in card.of("invariant") if finding.passed),
        *(f"Never falls from one to the next: {finding.what}." for finding in card.of("order") if finding.passed),
        *(f"Agrees with {LIBRARY}: {finding.what}." for finding in card.of("library") if finding.passed),
        *(f"Differs from the paper: {text}" for text in stated(card.key, "Differs")),
        *(f"Interpretation: {text}" for text in stated(card.key, "Interpretation")),
        *(f"{LIBRARY} differs, {finding.what}: {finding.note}." for finding in card.of("deviation") if finding.passed),
        *(f"FAILED {finding}" for finding in card.failures),
    ]


def stated(key: str, word: str) -> list[str]:
    """Return the paragraphs of a loss's docstring that open with ``word:``, but not ``word: nothing``."""
    found = re.findall(rf"^{word}: (.*?)(?=^\w+: |\n\n|\Z)", LOSSES[key].doc, re.DOTALL | re.MULTILINE)
    texts = [" ".join(text.split()) for text in found]
    return [text for text in texts if not text.lower().startswith("nothing")]


def print_cards(console: Console, cards: Sequence[Card]) -> None:
    """Print one row per card, then what failed."""
    table = Table(box=SIMPLE, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column.removesuffix(" error"), no_wrap=column not in ("agrees with", "differs"))
    for card in cards:
        table.add_row(*_row(card, card.key, _digits))
    console.print(table)
    console.print("value, gradient and float32 are the largest errors found", highlight=False)
    for card in cards:
        for finding in card.failures:
            console.print(f"{card.key}: FAILED {finding}", markup=False, highlight=False, soft_wrap=True)
    console.print("dml-bench info losses KEY tells more of one of them.", highlight=False)


def _row(card: Card, name: str, error: Callable[[Card, str], str]) -> list[str]:
    agrees = {
        "loops": has_reference(card.key),
        "vectors": vectors.of(card.key),
        "losses": card.of("identity"),
        "PML": card.of("library"),
    }
    deviates = {
        "paper": stated(card.key, "Differs"),
        "interpretation": stated(card.key, "Interpretation"),
        "PML": card.of("deviation"),
    }
    lists = (", ".join(word for word, found in words.items() if found) or "-" for words in (agrees, deviates))
    return [name, *(error(card, kind) for kind in ERRORS), *lists, card.verdict]


def _sources(vector: vectors.Vector) -> str:
    others = [source.replace("PML", LIBRARY) for source in vector.sources if "own" not in source]
    return f", as does {'; '.join(others)}" if others else ""


def _digits(card: Card, kind: str) -> str:
    finding = card.worst(kind)
    return "-" if finding is None else f"{finding.error:.1e}"


def _magnitude(card: Card, kind: str) -> str:
    finding = card.worst(kind)
    if finding is None or finding.error is None:
        return "-"
    rung = next((rung for rung in LADDERS[kind] if SAFETY * finding.error <= rung), None)
    return f"{finding.error:.0e}" if rung is None else f"< {rung:.0e}"
