"""A gallery as one HTML file that asks for nothing from outside: images are inlined, names stay text."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from html import escape

import numpy as np
import numpy.typing as npt
from PIL import Image

from dml_bench.reports.answers import Answer, Gallery, Shown

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.4 system-ui, sans-serif; margin: 1rem auto; max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.2rem; }
h2 { font-size: 1.05rem; margin-top: 2rem; }
section { display: flex; flex-wrap: wrap; align-items: flex-start; gap: .8rem; border-top: 1px solid #8888; }
section { margin-top: 1rem; padding-top: 1rem; }
ol { display: flex; flex-wrap: wrap; gap: .8rem; list-style: none; margin: 0; padding: 0; flex: 1 1 16rem; }
figure { margin: 0; width: 7rem; }
img { width: 7rem; height: 7rem; object-fit: contain; image-rendering: pixelated; box-sizing: border-box; }
img { border: 1px solid #8888; }
.query img { border: 3px solid currentColor; }
.right img { border: 3px solid #0072b2; }
.wrong img { border: 3px dashed #d55e00; }
figcaption { font-size: .8rem; overflow-wrap: anywhere; }
"""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
KINDS = {None: "", True: "right", False: "wrong"}
MARKS = {None: "", True: "✓ ", False: "✗ "}


def to_page(gallery: Gallery) -> str:
    """Write a gallery as HTML."""
    return "".join(f"{line}\n" for line in _page(gallery))


def _page(gallery: Gallery) -> Iterator[str]:
    title, _, rest = gallery.title.partition("\n")
    yield from ("<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">')
    yield f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield from (f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", "</head>", "<body>", "<main>")
    yield from (f"<h1>{escape(title)}</h1>", f"<p>{escape(rest)}</p>")
    for block in gallery.blocks:
        yield f"<h2>{escape(block.heading)}</h2>" if block.heading else ""
        for answer in block.answers:
            yield from _section(answer)
    yield from ("</main>", "</body>", "</html>")


def _section(answer: Answer) -> Iterator[str]:
    yield f'<section aria-label="{_called(answer.query)}">'
    yield _figure(answer.query, "query")
    yield "<ol>"
    for rank, shown in enumerate(answer.found, start=1):
        yield f"<li>{_figure(shown, KINDS[shown.right], f'{rank}. ')}</li>"
    yield from ("</ol>", "</section>")


def _figure(shown: Shown, kind: str, before: str = "") -> str:
    lines = [escape(line) for line in (*_names(shown), shown.note) if line]
    text = f"{before}{MARKS[shown.right]}{'<br>'.join(lines)}"
    image = f'<img src="{data_uri(shown.image)}" alt="{_called(shown)}">'
    return f'<figure class="{kind}">{image}<figcaption>{text}</figcaption></figure>'


def _called(shown: Shown) -> str:
    return escape(", ".join(_names(shown)))


def _names(shown: Shown) -> list[str]:
    """Return class and file, without the folder of the file if that is the class."""
    return [part for part in (shown.name, shown.file.removeprefix(f"{shown.name}/")) if part]


def data_uri(image: npt.NDArray[np.uint8]) -> str:
    """Return an image ``(H, W, 1 or 3)`` as the address of a PNG that holds itself."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image[:, :, 0] if image.shape[2] == 1 else image)).save(stream, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
