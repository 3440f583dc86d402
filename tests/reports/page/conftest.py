"""Pages to look at: of names that would like to be markup, and of a thousand rows."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from dml_bench.recipe.reader import read_recipe
from dml_bench.reports.page import to_html

NAMES = (
    "<script>alert(1)</script>",
    '"onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "</template><img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]></style></td></table>",
    "\u202eevil\u202c",
    "$x$ \\frac{1}{2}",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; &amp;",
    "🧪 naïve 损失",
    "javascript:alert(1)",
)
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    + "1f15c4890000000d49444154789c6360606060000000050001a5f6"
    "45400000000049454e44ae426082"
)
DRAWING = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script></svg>'


@pytest.fixture(scope="session")
def names():
    return NAMES


@pytest.fixture(scope="session")
def hostile(make):
    """Runs every text of which is one of ``NAMES``, one of them failed; a reference; no two means are alike."""
    runs = []
    for i, name in enumerate(NAMES):
        recipe = {"name": name, "loss": {"name": name, name: name}, "selection": {"name": "last"}}
        facts = {"recipe_name": name, "dataset": NAMES[0], "backbone": name, "recipe": recipe, "protocol_id": NAMES[5]}
        facts |= {"recipe_id": f"{i:012x}", "options": {name: name}, "environment": {"processor": name, "git": None}}
        for seed in (0, 1):
            metrics = {"recall@1": (70 + i + 0.2 * seed) / 100, "nmi": (99 - 3 * i) / 100}
            runs.append(make(name, seed, metrics=metrics, **facts))
    broken = {"status": "failed", "reason": f"error: {NAMES[0]}", "metrics": {}, "recipe_id": "broken"}
    runs += [make("broken", **(facts | broken)), make("raw_pixels", **(facts | {"recipe_id": "raw", "options": {}}))]
    return runs


@pytest.fixture(scope="session")
def many(make):
    """A thousand rows, the values of one of which are missing."""
    recipe = read_one()
    return [
        make(
            f"loss_{i % 40}",
            recipe_id=f"{i:012x}",
            options={"scale": i, "margin": i % 7 / 10},
            recipe={**recipe, "loss": {"name": f"loss_{i % 40}", "scale": i}},
            metrics={f"recall@{k}": 0.5 + 0.4 * math.sin(i * k) for k in (1, 2, 4, 8)} if i != 500 else {},
        )
        for i in range(1000)
    ]


def read_one() -> dict:
    from dml_bench.flow import VOCABULARY

    root = Path(__file__).parents[3]
    return read_recipe(root / "recipes/quickstart.yaml", VOCABULARY)[0].recipe.document()


@pytest.fixture(scope="session")
def hostile_text(hostile):
    pictures = {f"{name.replace('/', '')}.png": PIXEL for name in NAMES} | {"drawing.svg": DRAWING}
    return to_html(hostile, pictures, when=NAMES[0])
