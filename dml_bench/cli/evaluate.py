"""Score embeddings from files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dml_bench.cli.app import app, terminal
from dml_bench.recipe.schema import DEFAULT_METRICS

if TYPE_CHECKING:
    import numpy.typing as npt

    from dml_bench.data.embedding_files import EmbeddingFile
    from dml_bench.evaluation.evaluate import Scores, Tell

Format = Literal["table", "json", "csv"]
Metrics = Annotated[str, typer.Option(metavar="LIST", help="Names with commas, or 'all'; dml-bench list metrics.")]
DEFAULT = ",".join(DEFAULT_METRICS)


@app.command(epilog="Example: dml-bench evaluate test.npz --metrics recall@1,recall@10,map@r")
def evaluate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=".npz, .npy, .pt, .csv, .tsv or .parquet.")],
    labels: Annotated[Path | None, typer.Option(metavar="FILE", help="Labels, where FILE has none.")] = None,
    gallery: Annotated[Path | None, typer.Option(metavar="FILE", help="Search this; all of FILE asks.")] = None,
    gallery_labels: Annotated[Path | None, typer.Option(metavar="FILE", help="Labels of the gallery.")] = None,
    split_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column that says query, gallery or both.")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV of pairs to verify: first,second,same[,fold].")
    ] = None,
    metrics: Metrics = DEFAULT,
    distance: Annotated[Literal["cosine", "euclidean"], typer.Option(help="What near means.")] = "cosine",
    restarts: Annotated[int, typer.Option(min=1, help="K-means runs behind nmi, ami, ari, pairwise_f1.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of k-means.")] = 0,
    engine: Annotated[Literal["auto", "faiss", "torch"], typer.Option(help="Who proposes neighbors.")] = "auto",
    precision: Annotated[Literal["float32", "float64"], typer.Option(help="float64 checks the ranks.")] = "float32",
    memory: Annotated[str, typer.Option(help="Working memory, such as 512MB.")] = "1GB",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    output: Annotated[Format, typer.Option("--format", help="What is printed.")] = "table",
    per_query: Annotated[Path | None, typer.Option(metavar="OUT.csv", help="Write every query's values.")] = None,
    per_class: Annotated[Path | None, typer.Option(metavar="OUT.csv", help="Write every class's means.")] = None,
) -> None:
    """Score embeddings from a file: retrieval, clustering, verification; exact, in bounded memory."""
    from dml_bench.data.embedding_files import read_embeddings, share_labels
    from dml_bench.errors import DataError, OptionError, Problem
    from dml_bench.evaluation.evaluate import evaluate as score
    from dml_bench.evaluation.pair_files import read_pairs
    from dml_bench.runners.plan import choose_device

    begin = time.perf_counter()
    if gallery_labels and not gallery:
        raise OptionError([Problem(("gallery_labels",), "are of no use without --gallery FILE")])
    found = read_embeddings(file, labels=labels, split_column=split_column)
    sides: dict[str, Any] = {"query": found.query, "gallery": found.gallery}
    if gallery:
        apart = read_embeddings(gallery, labels=gallery_labels)
        for path, side in ((file, found), (gallery, apart)):
            if side.query is not None:
                raise DataError(f"{path}: says itself who is query and gallery, so it cannot be used with --gallery")
        found, apart = share_labels(found, apart)
        sides = {"query": None, "gallery": (apart.embeddings, apart.labels)}
    with progress() as tell:
        scores = score(
            found.embeddings,
            found.labels,
            metric_names(metrics),
            **sides,
            pairs=read_pairs(pairs) if pairs else None,
            distance=distance,
            restarts=restarts,
            seed=seed,
            memory=memory,
            engine=engine,
            precision=precision,
            device=choose_device(device),
            tell=tell,
        )
    if per_query:
        _write(per_query, scores.per_query, found, per_row=True)
    if per_class:
        _write(per_class, scores.per_class(), found, per_row=False)
    _print(scores, output, len(found.embeddings), found.embeddings.shape[1], time.perf_counter() - begin)


def metric_names(text: str) -> list[str]:
    """Split a list of metrics as people type it; ``all`` is one of every kind."""
    from dml_bench.evaluation.metrics import ALL_METRICS

    return list(ALL_METRICS) if text == "all" else [name.strip() for name in text.split(",") if name.strip()]


@contextmanager
def progress() -> Iterator[Tell]:
    """Show on the terminal's error stream what is being done, and give the function that is to be told of it."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    tasks: dict[str, TaskID] = {}

    def tell(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=done, total=total)

    with bar:
        yield tell


def _print(scores: Scores, output: Format, items: int, dim: int, seconds: float) -> None:
    if output == "json":
        print(scores.to_json())  # noqa: T201
    elif output == "csv":
        print(scores.to_csv(), end="")  # noqa: T201
    else:
        terminal().print(scores.table(), markup=False, highlight=False, soft_wrap=True)
        terminal().print(f"{items} x {dim} embeddings in {seconds:.1f} s", markup=False, highlight=False)


def _write(path: Path, columns: Mapping[str, npt.NDArray[Any]], found: EmbeddingFile, *, per_row: bool) -> None:
    """Write one line per query or class, with the names that the file gives to labels and rows."""
    from dml_bench.errors import DataError
    from dml_bench.evaluation.scores import as_csv

    if not columns:
        raise DataError(f"{path}: no metric that was asked for has a value per query; add recall@1, for example")
    named: dict[str, Any] = {name: values.tolist() for name, values in columns.items()}
    named["label"] = [found.label_names[code] for code in named["label"]]
    if per_row and found.paths is not None:
        named["path"] = [found.paths[row] for row in named["query"]]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(as_csv(list(named), list(zip(*named.values(), strict=True))), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from None
