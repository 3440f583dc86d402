"""Weights from a file: only if it is the file that the recipe means, and only if every tensor has its place.

The file is read once: what was checked is what is loaded. A ``.pth`` file is unpickled with ``weights_only``, which
runs no code; a ``.safetensors`` file holds none.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from dml_bench.errors import DataError, DmlBenchError
from dml_bench.recipe.weights import digits_in

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$", description="8 to 64 hexadecimal digits")]
"""The sha256 of a file, or its first digits."""

SHOWN = 3
"""So many names of tensors are listed in an error."""


def load_weights(network: nn.Module, path: Path, sha256: str | None, unused: str) -> str:
    """Load a file of weights into ``network`` and return its sha256.

    Args:
        network: receives every tensor; what it counts batches with may be missing, as it is in old files.
        path: a ``.safetensors`` file, or one that ``torch.save`` wrote.
        sha256: its first digits, at least 8. Where the recipe states none, those in the file's name count, if there are
            any (``resnet50-0676ba61.pth``).
        unused: a regular expression; names that begin so, such as those of the classifier, may be in the file besides.

    Raises:
        DataError: naming the file, if it cannot be read, is another file, or holds anything but these weights.
    """
    content = _read(path)
    digest = hashlib.sha256(content).hexdigest()
    wanted = sha256 or digits_in(path.name)
    if not digest.startswith(wanted):
        raise DataError(f"{path}: not the file that is meant: its sha256 begins {digest[:12]}, not {wanted[:12]}")
    found = {name: tensor for name, tensor in _tensors(path, content).items() if not re.match(unused, name)}
    own = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    counts = {name for name in found if name.endswith("num_batches_tracked")}
    fitted = {name: _fit(tensor, own[name]) for name, tensor in found.items() if name in own}
    faults = [
        *_named("missing", own.keys() - found.keys()),
        *_named("surplus", found.keys() - own.keys() - (counts & network.state_dict().keys())),
        *_named("misshapen", (_mismatch(name, fitted[name], own[name]) for name in fitted)),
    ]
    if faults:
        raise DataError(f"{path}: not the weights of this network: {'; '.join(faults)}")
    network.load_state_dict(fitted, strict=False)
    return digest


def vision(module: str) -> Any:
    """Import a module of the extra ``vision``.

    Raises:
        DmlBenchError: if it is not installed, or cannot be imported beside what is.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise DmlBenchError(f"{module} needs {missing}: pip install 'dml-bench[vision]'") from None
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision made for another torch
        raise DmlBenchError(f"{module} cannot be imported: {error}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read the weights: {error.strerror}") from None


def _tensors(path: Path, content: bytes) -> dict[str, Tensor]:
    """Return the tensors in a file by name."""
    unpack = vision("safetensors.torch").load if path.suffix == ".safetensors" else _unpickle
    try:
        found = unpack(content)
    except UnpicklingError:
        raise DataError(f"{path}: not a file of weights alone: it holds more than tensors, or is damaged") from None
    except Exception as error:  # damaged files raise whatever their readers stumble over
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise DataError(f"{path}: not a readable file of weights: {reason[0]}") from None
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise DataError(f"{path}: not a file of weights: it must map names to tensors, and nothing else")
    return {str(name): tensor for name, tensor in found.items()}


def _unpickle(content: bytes) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old formats; what is wrong in them is found below
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _fit(tensor: Tensor, own: Tensor) -> Tensor:
    """Drop the first axis of length 1 that vectors had in files of Torch 7's time."""
    return tensor.squeeze(0) if tensor.shape == (1, *own.shape) else tensor


def _mismatch(name: str, tensor: Tensor, own: Tensor) -> str:
    if tensor.shape != own.shape:
        return f"{name} {tuple(tensor.shape)} instead of {tuple(own.shape)}"
    plain = tensor.is_floating_point() and tensor.layout == torch.strided and tensor.device.type == "cpu"
    return "" if plain else f"{name} of {tensor.device.type}, {tensor.layout}, {tensor.dtype}".replace("torch.", "")


def _named(fault: str, names: Iterable[str]) -> list[str]:
    """Return what is wrong with how many tensors, the first of them by name."""
    listed = sorted(filter(None, names))
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return [f"{fault} {', '.join(listed[:SHOWN])}{more}"] if listed else []
