"""A published network as ONNX: from the pixels of prepared images to embeddings, checked against the network here."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dml_bench.errors import DmlBenchError
from dml_bench.retrieval.export import described, needed
from dml_bench.retrieval.published import Published

OPSET = 18
TOLERANCE = 1e-4
"""Largest difference from the network here, as a share of the largest value of an embedding."""

ONNX = """
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession("run.onnx")
print(session.get_modelmeta().custom_metadata_map["prepared"])  # what to do to an image beforehand
images = np.zeros((5, *session.get_inputs()[0].shape[1:]), SHAPE)  # any number of them
(embeddings,) = session.run(["embeddings"], {"images": images})
"""
"""Runs the network. ``SHAPE`` is the type of the input."""


class Whole(nn.Module):
    """A network that takes images ``(N, H, W, C)`` uint8, red first, or features ``(N, D)`` float32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings ``(N, D)`` float32, of any length."""
        if images.dtype == torch.uint8:
            images = images.permute(0, 3, 1, 2).to(torch.float32) / 255
        embeddings: Tensor = self.model(images)
        return embeddings


def onnx(run: Published) -> bytes:
    """Return the network in evaluation mode, with its input normalisation, for any number of images at once.

    Raises:
        DmlBenchError: if onnx or onnxscript is not installed, or the network has parts that ONNX has not.
    """
    for module in ("onnx", "onnxscript"):
        if find_spec(module) is None:
            raise needed(module, "-f onnx")
    batch = torch.export.Dim("batch")
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["embeddings"], "opset_version": OPSET}
    try:
        with _silence(), torch.no_grad():
            program: Any = torch.onnx.export(
                Whole(run.model).eval(),
                (torch.from_numpy(_some(run, 2)),),
                dynamic_shapes=({0: batch},),
                dynamo=True,
                verbose=False,
                **names,
            )
            proto: Any = program.model_proto
    except Exception as error:  # the exporter's own kinds, one for each of its stages
        raise DmlBenchError(f"{run.folder}: cannot be written as ONNX: {type(error).__name__}: {error}") from error
    for key, value in described(run).items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    content: bytes = proto.SerializeToString()
    return content


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep what the exporter has to say about itself off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def difference(run: Published, content: bytes) -> float | None:
    """Return by how much ONNX Runtime's embeddings differ from the network's, as a share of the largest value.

    None if onnxruntime is not installed.

    Raises:
        DmlBenchError: if that is more than ``TOLERANCE``.
    """
    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    images = _some(run, 5)
    (found,) = session.run(["embeddings"], {"images": images})
    expected = run.embed(images)
    apart = float(np.abs(found - expected).max() / max(np.abs(expected).max(), np.finfo(np.float32).tiny))
    if not apart <= TOLERANCE:
        raise DmlBenchError(f"{run.folder}: the ONNX network differs by {apart:.2g}; allowed: {TOLERANCE:g}")
    return apart


def example(run: Published) -> str:
    """Return lines of Python that run the network."""
    return ONNX.replace("SHAPE", "np.uint8" if _some(run, 1).dtype == np.uint8 else "np.float32")


def _some(run: Published, count: int) -> Any:
    """Draw images, or features, to try the network with."""
    shape = run.image_shape
    drawn = np.random.default_rng(0)
    if len(shape) == 1:
        return drawn.standard_normal((count, *shape)).astype(np.float32)
    return drawn.integers(0, 256, (count, *shape), dtype=np.uint8)
