"""Softmax over classes, by what is normalised; no margins."""

from __future__ import annotations

import math
import warnings
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dml_bench.errors import OptionError, Problem
from dml_bench.losses.centers import gaussian, on_sphere, uniform_over_dimensions
from dml_bench.losses.centroids import BatchCentroids
from dml_bench.losses.loss import LOSSES, Loss, Task
from dml_bench.losses.objectives import Hinge, PairHinge
from dml_bench.losses.proxy import ProxyLoss
from dml_bench.losses.similarity import class_cosine, dot, feature_cosine, negative_squared_distance
from dml_bench.registry import Finite, Positive


def linear_bias(task: Task, bias: bool = True) -> Float[Tensor, " C"] | None:
    """Draw a bias as torch does for a linear layer, from U(-1/sqrt(D), 1/sqrt(D)); None without ``bias``."""
    return torch.empty(task.num_classes).uniform_(-1, 1) / math.sqrt(task.embedding_dim) if bias else None


@LOSSES.register("softmax_ce")
def softmax_ce(task: Task, /, *, bias: bool = True) -> ProxyLoss:
    """Classify by a linear layer and softmax (cross-entropy).

    loss = ell(z, y), z_j = w_j . x + b_j; nothing is normalised, but evaluation compares unit vectors all the same.

    Source: Bridle, Training Stochastic Model Recognition Algorithms as Networks, NIPS 1990.
    Differs: nothing.
    """
    return ProxyLoss(task, similarity=dot, bias=linear_bias(task, bias), init=uniform_over_dimensions)


@LOSSES.register("w_softmax")
def w_softmax(task: Task, /) -> ProxyLoss:
    """Classify by softmax with centers of unit length (W-Softmax, modified softmax).

    loss = ell(z, y), z_j = w_j^ . x; the length of x sets how sharp the softmax is.

    Source: Liu et al., SphereFace, CVPR 2017, Eq. 4; Liu et al., Deep Hyperspherical Learning, NIPS 2017.
    Differs: nothing.
    """
    return ProxyLoss(task, similarity=class_cosine)


@LOSSES.register("l2_softmax")
def l2_softmax(
    task: Task, /, *, scale: Positive | None = None, learn_scale: bool = False, bias: bool = True
) -> ProxyLoss:
    """Classify embeddings of a fixed length by softmax (L2-Softmax).

    loss = ell(z, y), z_j = s w_j . x^ + b_j, s = scale (the paper's alpha); null takes 16 up to 200 classes, else 32.
    Below log(0.9 (C-2) / 0.1) the probability of the own class cannot reach 0.9: a warning says so.

    Source: Ranjan et al., L2-constrained Softmax Loss for Discriminative Face Verification, 2017, section 4.
    Differs: the paper finds 30 to 50 best for faces, whose classes are many; the defaults are this suite's.
    """
    scale = (16.0 if task.num_classes <= 200 else 32.0) if scale is None else scale
    lowest = math.log(9 * (task.num_classes - 2)) if task.num_classes > 2 else 0.0
    if scale < lowest:
        warnings.warn(
            f"l2_softmax: with scale={scale:g} no sample of {task.num_classes} classes can reach a probability of 0.9; "
            f"that needs {lowest:.2f}",
            stacklevel=2,
        )
    return ProxyLoss(
        task,
        similarity=feature_cosine,
        scale=scale,
        learn_scale=learn_scale,
        bias=linear_bias(task, bias),
        init=uniform_over_dimensions,
    )


@LOSSES.register("norm_softmax")
def norm_softmax(
    task: Task,
    /,
    *,
    scale: Positive = 20.0,
    learn_scale: bool = False,
    init: Literal["unit", "official"] = "unit",
) -> ProxyLoss:
    """Compare cosines to one center per class by softmax.

    loss = ell(z, y), z_j = s cos_j, s = scale. It cannot fall below log(1 + (C-1) exp(-s C / (C-1))), so a scale that
    is too small never fits. ``init``: centers of length about 1, or as Zhai and Wu draw them, entries from U(-b, b),
    b = 1 / sqrt(D), of length about 0.58.

    Source: Wang et al., NormFace, ACM MM 2017; Zhai and Wu, Classification is a Strong Baseline for Deep Metric
        Learning, BMVC 2019.
    Differs: NormFace learns the scale (learn_scale); Zhai and Wu put a LayerNorm without parameters before it
        (an option of the embedder).
    """
    start = gaussian if init == "unit" else uniform_over_dimensions
    return ProxyLoss(task, scale=scale, learn_scale=learn_scale, init=start)


@LOSSES.register("coco")
def coco(
    task: Task,
    /,
    *,
    epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-4,
    centroids: Literal["learned", "batch"] = "learned",
) -> Loss:
    """Compare cosines to one centroid per class by softmax, with the scale that the number of classes asks for (COCO).

    loss = ell(z, y), z_j = s cos_j, s = log((C-1) / (exp(epsilon) - 1)) / 2: at that scale the loss of perfectly
    placed embeddings, log(1 + (C-1) exp(-2 s)), is epsilon. centroids=batch takes the mean direction of each class in
    the batch for its centroid, and no other class; nothing is learned then.

    Source: Liu et al., Rethinking Feature Discrimination and Polymerization for Large-scale Recognition, 2017; batch:
        Liu et al., Learning Deep Features via Congenerous Cosine Loss for Person Recognition, 2017.
    Differs: the earlier paper, centroids=batch, has no scale; here it is the same in both.
    """
    room = (task.num_classes - 1) / math.expm1(epsilon)
    if room <= 1:
        raise OptionError([Problem(("epsilon",), f"{epsilon:g} gives {task.num_classes} classes no scale above 0")])
    scale = 0.5 * math.log(room)
    return ProxyLoss(task, scale=scale) if centroids == "learned" else BatchCentroids(task, scale)


@LOSSES.register("c_contrastive")
def c_contrastive(task: Task, /, *, margin: Positive = 1.0) -> ProxyLoss:
    """Pull embeddings to the center of their class and push them away from the others (C-contrastive).

    loss = d_y + sum_{j != y} max(0, m - d_j), d_j = ||x^ - w_j^||^2.

    Source: Wang et al., NormFace, ACM MM 2017, section 4.
    Differs: nothing.
    """
    return ProxyLoss(task, similarity=negative_squared_distance, objective=PairHinge(margin=margin), init=on_sphere)


@LOSSES.register("c_triplet")
def c_triplet(task: Task, /, *, margin: Finite = 0.8, hardest_only: bool = False) -> ProxyLoss:
    """Ask that the center of the own class is nearer than the others (C-triplet).

    loss = sum_{j != y} max(0, m + d_y - d_j), d_j = ||x^ - w_j^||^2; with hardest_only the maximum for the sum.

    Source: Wang et al., NormFace, ACM MM 2017, section 4; hardest_only from the authors' configuration.
    Differs: the gradient is that of the formula; the authors' layer pulls with weight 1 however many classes violate.
    """
    objective = Hinge(margin=margin, hardest_only=hardest_only)
    return ProxyLoss(task, similarity=negative_squared_distance, objective=objective, init=on_sphere)
