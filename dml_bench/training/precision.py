"""The number format of the network's forward and backward pass."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

Precision = Literal["fp32", "bf16"]


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context the network runs in; losses always compute in float32 or wider."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def lay_out(module_or_images: Any, precision: Precision) -> Any:
    """Put a module's weights or a batch of images into the memory layout that is fast at ``precision``."""
    if precision == "fp32":
        return module_or_images
    if isinstance(module_or_images, nn.Module):
        return module_or_images.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images: Tensor = module_or_images
    return images.contiguous(memory_format=torch.channels_last)
