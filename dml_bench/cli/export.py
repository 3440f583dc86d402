"""Write a published run for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dml_bench.cli.app import app, check_apart, folder_and_name, terminal, write_file
from dml_bench.cli.retrieve import Root, Which

if TYPE_CHECKING:
    from dml_bench.results.record import RunRecord

Format = Literal["onnx", "safetensors", "npz"]


@app.command(epilog="Example: dml-bench export runs/mine:RUN_ID -f onnx -o network.onnx")
def export(
    run: Which,
    form: Annotated[Format, typer.Option("--format", "-f", help="Network, weights, or embeddings.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="[default: RUN_ID.FORMAT in this folder]")
    ] = None,
    data_root: Root = None,
) -> None:
    """Write a published run for other programs, and print the lines of Python that read it.

    onnx: the network, from prepared images (N, H, W, C) uint8 to embeddings; checked if onnxruntime is installed.
    safetensors: the weights of network and loss, with the recipe. npz: the embeddings of the test items, with labels,
    masks of queries and gallery, paths and class names.
    """
    from dml_bench.retrieval.published import find_one

    record = find_one(*folder_and_name(run))
    path = out or Path(f"{record.run_id}.{form}")
    check_apart(path)
    content, note, example = _content(record, form, data_root)
    write_file(path, content)
    _say(f"{path}: {len(content):,} bytes, {note}\n{example.replace(f'run.{form}', str(path))}".rstrip())


def _content(record: RunRecord, form: Format, data_root: Path | None) -> tuple[bytes, str, str]:
    """Return the file, what is to be said of it, and how it is read."""
    from dml_bench.retrieval import export, network
    from dml_bench.retrieval.published import open_run

    if form == "npz":
        content, lacks = export.npz(record, data_root)
        return content, lacks or "with class names, and paths where the images are files", export.NPZ
    opened = open_run(record)
    if form == "safetensors":
        return export.safetensors(opened), "weights in float32", export.SAFETENSORS
    content = network.onnx(opened)
    apart = network.difference(opened, content)
    checked = "not checked, as onnxruntime is not installed" if apart is None else f"largest difference {apart:.2g}"
    return content, f"opset {network.OPSET}, {checked}", network.example(opened)


def _say(text: str) -> None:
    terminal().print(text, markup=False, highlight=False, soft_wrap=True)
