"""The number format, the memory layout and the exactness of the network's forward and backward pass."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from dml_bench.errors import OptionError, Problem
from dml_bench.recipe.schema import Training

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""The precisions of 16 bits."""

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def check_precision(settings: Training, device: torch.device) -> None:
    """Refuse what ``device`` cannot do.

    Raises:
        OptionError: for fp16 or tf32 without a CUDA device, or for ``deterministic`` on one where the environment does
            not say ``CUBLAS_WORKSPACE_CONFIG=:4096:8``, without which its matrix products may differ between runs.
    """
    if settings.precision in ("fp16", "tf32") and device.type != "cuda":
        message = f"{settings.precision} needs a CUDA device, not {device.type}; allowed there: fp32 and bf16"
        raise OptionError([Problem(("training", "precision"), message)])
    if settings.deterministic and device.type == "cuda" and os.environ.get(WORKSPACE) not in (":4096:8", ":16:8"):
        message = f"needs {WORKSPACE}=:4096:8 in the environment on a CUDA device"
        raise OptionError([Problem(("training", "deterministic"), message)])


@contextmanager
def arithmetic(settings: Training) -> Iterator[None]:
    """Hold torch to what the recipe says about TF32 and determinism for a while, and put things back afterwards.

    On CUDA devices, float32 products round their factors to 10 bits only where the recipe says ``tf32``.
    """
    products = torch.backends.cuda.matmul
    rounded, exact = products.allow_tf32, torch.are_deterministic_algorithms_enabled()
    warn_only, tf32 = torch.is_deterministic_algorithms_warn_only_enabled(), settings.precision == "tf32"
    wanted = settings.deterministic or exact
    try:
        products.allow_tf32 = tf32
        torch.use_deterministic_algorithms(wanted, warn_only=warn_only and not settings.deterministic)
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=wanted, allow_tf32=tf32):
            yield
    finally:
        products.allow_tf32 = rounded
        torch.use_deterministic_algorithms(exact, warn_only=warn_only)


def autocast(settings: Training, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context the network runs in; losses always compute in float32 or wider."""
    kind = HALVES.get(settings.precision)
    return nullcontext() if kind is None else torch.autocast(device.type, kind)


def scaler(settings: Training, device: torch.device) -> torch.amp.GradScaler:
    """Return what keeps small gradients of fp16 from vanishing, and skips steps whose gradient overflowed."""
    return torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")


def lay_out(module_or_images: Any, settings: Training) -> Any:
    """Put a module's weights or a batch of images into the memory layout that the recipe says."""
    chosen = settings.channels_last
    if not (settings.precision in HALVES if chosen is None else chosen):
        return module_or_images
    if isinstance(module_or_images, nn.Module):
        return module_or_images.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images: Tensor = module_or_images
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images


def widened(embeddings: Tensor) -> Tensor:
    """Return float32, or float64 if it is that already."""
    return embeddings if embeddings.dtype == torch.float64 else embeddings.float()
