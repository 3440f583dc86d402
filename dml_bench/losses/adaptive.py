"""AdaptiveFace: every class learns a margin of its own, and races against the classes it is most easily taken for."""

from __future__ import annotations

import warnings

from dml_bench.losses.loss import LOSSES, Task
from dml_bench.losses.margins import PerClass
from dml_bench.losses.negatives import Candidates, none
from dml_bench.losses.proxy import ProxyLoss
from dml_bench.losses.regularizers import MeanMargin
from dml_bench.registry import Count, NonNegative, Positive


@LOSSES.register("adaptiveface")
def adaptiveface(
    task: Task,
    /,
    *,
    scale: Positive = 30.0,
    margin_weight: NonNegative = 20.0,
    angular: bool = False,
    candidates: Count | None = None,
) -> ProxyLoss:
    """Learn how large a margin each class can bear (AdaM-Softmax).

    loss = -log( exp(s (cos_y - m_y)) / (exp(s (cos_y - m_y)) + sum_{j != y} exp(s cos_j)) ) - lambda mean_c m_c, with
    s = scale, lambda = margin_weight and learned margins m_c in [0, 1], from U(0.3, 0.4) at first; angular=true takes
    cos(theta_y + m_y). With candidates=q, j runs over the classes of the batch and the q rivals that each of them
    remembers: at first, and where places are free when an epoch begins, the classes with the most similar centers;
    after a step, the classes that beat it. Images it gets wrong are drawn more often by the sampler adaptive.

    Source: Liu et al., AdaptiveFace: Adaptive Margin and Sampling for Face Recognition, CVPR 2019, Eq. 4;
        initial margins and their bounds from the code of FaceX-Zoo.
    Interpretation: rivals leave when newer ones need their place, or when their center is more than a right angle
        away; cos(theta + m) is not continued beyond theta + m = pi.
    Differs: the loss may be negative; FaceX-Zoo adds the constant lambda. At lambda >= s every margin runs to 1, of
        which a warning tells (FaceX-Zoo has lambda=70, s=30).
    """
    if margin_weight >= scale:
        warnings.warn(
            f"adaptiveface: margin_weight={margin_weight} is not below scale={scale}, so every margin will run to 1",
            stacklevel=2,
        )
    return ProxyLoss(
        task,
        margin=PerClass(angular=angular),
        negatives=none if candidates is None else Candidates(count=candidates),
        scale=scale,
        regularizers=[MeanMargin(weight=margin_weight)],
    )
