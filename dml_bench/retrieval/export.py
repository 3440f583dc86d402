"""A published run for other programs: its embeddings as ``.npz``, its weights as ``.safetensors``.

What is written is described, and read back without this package, in ``NPZ`` and ``SAFETENSORS``; the network itself
goes out by ``network``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dml_bench import __version__
from dml_bench.errors import DataError, DmlBenchError
from dml_bench.results.record import RunRecord
from dml_bench.retrieval.published import Published, data_of, files_tested, folder_of, stored
from dml_bench.retrieval.search import preparation_of
from dml_bench.training.assembly import WEIGHTS

NPZ = """
import numpy as np
with np.load("run.npz") as run:  # query and gallery, paths and class_names are there where they are known
    embeddings, labels = run["embeddings"], run["labels"]
"""
"""Reads the embeddings of the test items, as ``dml-bench evaluate run.npz`` does; they are of any length."""

SAFETENSORS = """
import json
from safetensors import safe_open
with safe_open("run.safetensors", "pt") as run:
    said = run.metadata()  # recipe, facts of the training set, bgr; prepared: what to do to an image beforehand
    model = {name[6:]: run.get_tensor(name) for name in run.keys() if name.startswith("model.")}
    loss = {name[5:]: run.get_tensor(name) for name in run.keys() if name.startswith("loss.")}

from dml_bench.training.assembly import restored  # or fill a network of your own
saved = {name: json.loads(said[name]) for name in ("recipe", "facts", "bgr")}
network, loss, recipe = restored({**saved, "model": model, "loss": loss})

from pathlib import Path
import numpy as np
import torch
from dml_bench.data.preparing import preparation
shape = saved["facts"]["image_shape"]

def read(*files):  # image files, prepared as the test images were: (N, H, W, C) uint8, red first
    prepare = preparation(recipe.dataset, shape)
    return np.stack([prepare(Path(file).read_bytes(), str(file)) for file in files])

def embed(images):  # what read returns; or features (N, D) float32, if the run was on features
    batch = torch.from_numpy(images)
    if batch.dtype == torch.uint8:  # the network takes (N, C, H, W) float32 from 0 to 1
        batch = batch.permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        return network(batch).numpy()  # (N, D) float32, of any length

embeddings = embed(np.zeros((5, *shape), np.uint8 if len(shape) == 3 else np.float32))  # or: embed(read("shoe.jpg"))
"""
"""Reads the weights, which are float32 whatever the network was trained in, and calls the network."""


def needed(module: str, what: str) -> DmlBenchError:
    """Return the error for a package that is not installed."""
    return DmlBenchError(f"{what} needs the package {module}; install it by: pip install 'dml-bench[export]'")


def npz(record: RunRecord, data_root: Path | None = None) -> tuple[bytes, str]:
    """Return embeddings, labels and masks of a run's test items, with paths and class names if the data are at hand.

    Returns:
        The content of the file, and what it lacks, empty if nothing.

    Raises:
        DataError: if the run's embeddings are missing or damaged.
    """
    file = stored(record)
    parts: dict[str, npt.NDArray[Any]] = {"embeddings": np.asarray(file.embeddings), "labels": file.labels}
    parts |= {} if file.query is None or file.gallery is None else {"query": file.query, "gallery": file.gallery}
    lacks = ""
    try:
        part, files = data_of(record, data_root).test, files_tested(record, data_root)
        parts["class_names"] = np.array(part.class_names)
        parts |= {} if files is None else {"paths": np.array(files)}
    except DataError as error:
        lacks = f"without paths and class names: {str(error).splitlines()[0]}"
    stream = io.BytesIO()
    np.savez(stream, **parts)  # type: ignore[arg-type]
    return stream.getvalue(), lacks


def safetensors(run: Published) -> bytes:
    """Return the weights of network and loss, with recipe, facts and how images are prepared as metadata.

    Raises:
        DmlBenchError: if safetensors is not installed.
    """
    try:
        from safetensors.torch import save
    except ImportError:
        raise needed("safetensors", "-f safetensors") from None
    states = {"model": run.model.state_dict(), "loss": run.loss.state_dict() if run.loss else {}}
    tensors = {f"{part}.{name}": value for part, state in states.items() for name, value in state.items()}
    whole = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    content: bytes = save(whole, metadata=described(run))
    return content


def described(run: Published) -> dict[str, str]:
    """Return what goes with the weights: ``recipe``, ``facts`` and ``bgr`` as JSON, the others as text."""
    saved: Mapping[str, Any] = torch.load(folder_of(run.record) / WEIGHTS, map_location="cpu", weights_only=True)
    facts = dict(saved["facts"])
    return {
        "recipe": json.dumps(run.recipe.document()),
        "facts": json.dumps({**facts, "class_counts": facts["class_counts"].tolist()}),
        "bgr": json.dumps(run.model.bgr),
        "prepared": "features as they are" if len(run.image_shape) == 1 else preparation_of(run).said,
        "version": __version__,
    }
