"""Batch normalisation by the statistics of the whole batch, where several ranks embed a share of it each."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dml_bench import ranks
from dml_bench.errors import OptionError, Problem

KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class WholeBatchNorm(_BatchNorm):
    """Normalise by mean and variance over the images of all ranks; two sums per pass go round.

    It takes over the parameters and running statistics of ``norm``, which stay where they are. In evaluation mode it
    is what ``norm`` was. It computes in float32 or wider.

    Differs: torch's SyncBatchNorm refuses the CPU. Here the variance is taken around the mean, in a second sum, as a
    single process takes it.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.train(norm.training)

    def _check_input_dim(self, input: Tensor) -> None:
        """Take any number of axes after the channels."""

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(n, C, ...)`` to the same shape."""
        if not self.training:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            wide = input if input.dtype == torch.float64 else input.float()
            axes, shape = [0, *range(2, input.ndim)], (1, -1, *(1 for _ in range(2, input.ndim)))
            size = torch.tensor([wide.numel() // wide.shape[1]], dtype=wide.dtype, device=wide.device)
            sums = ranks.summed(torch.cat([wide.sum(axes), size]))
            mean, size = sums[:-1] / sums[-1], sums[-1].detach()
            centered = wide - mean.view(shape)
            variance = ranks.summed(centered.square().sum(axes)) / size
            self._track(mean.detach(), variance.detach() * size / (size - 1))
            result = centered * (variance + self.eps).rsqrt().view(shape)
            if self.affine:
                result = result * self.weight.view(shape) + self.bias.view(shape)
            return result.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), rate)
        self.running_var.lerp_(variance.to(self.running_var), rate)


def moving_norms(model: nn.Module, held: Collection[nn.Module] = ()) -> dict[str, _BatchNorm]:
    """Return the batch normalisations of ``model`` that normalise by the batch in training mode, by name."""
    known = set(map(id, held))
    return {
        name: part for name, part in model.named_modules() if isinstance(part, _BatchNorm) and id(part) not in known
    }


def normalise_by_whole_batch(model: nn.Module, held: Collection[nn.Module] = ()) -> None:
    """Put ``WholeBatchNorm`` in the place of every batch normalisation that is not ``held`` in evaluation mode.

    Raises:
        OptionError: if there is a kind of which it is not known what it does besides normalising.
    """
    for name, norm in moving_norms(model, held).items():
        if type(norm) not in (*KINDS, WholeBatchNorm):
            message = f"several ranks need batch_norm in it for this network, whose {name} is a {type(norm).__name__}"
            raise OptionError([Problem(("training", "freeze"), message)])
        path, _, last = name.rpartition(".")
        if not isinstance(norm, WholeBatchNorm):
            setattr(model.get_submodule(path), last, WholeBatchNorm(norm))
