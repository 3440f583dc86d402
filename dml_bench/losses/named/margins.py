"""Softmax with a margin on the own class."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dml_bench.losses.annealing import Annealing, Schedule
from dml_bench.losses.centers import he_normal, uniform_over_dimensions
from dml_bench.losses.ensemble import Hsic, independent
from dml_bench.losses.loss import LOSSES, Task
from dml_bench.losses.margins import ANNEALED, Additive, Angular, Combined, Factor, Multiplicative, Overflow
from dml_bench.losses.named.softmax import linear_bias
from dml_bench.losses.proxy import ProxyLoss
from dml_bench.losses.regularizers import Uniform
from dml_bench.losses.similarity import class_cosine, cosine, dot
from dml_bench.losses.weighting import Focal
from dml_bench.registry import Count, NonNegative, Positive, Radians


@LOSSES.register("l_softmax")
def l_softmax(task: Task, /, *, margin: Factor = 4.0, annealing: Schedule = ANNEALED) -> ProxyLoss:
    """Multiply the angle to the own class by a margin (L-Softmax, large-margin softmax).

    loss = ell(z, y), z_j = w_j . x, z_y = ||w_y|| ||x|| (psi(theta_y) + lambda cos_y) / (1 + lambda),
    psi(theta) = (-1)^k cos(m theta) - 2 k for theta in [k pi / m, (k+1) pi / m].
    lambda_t = max(minimum, base (1 + gamma t)^(-power)) in step t = 1, 2, ...; a number never changes. A
    lambda of 0 from the start does not train.

    Source: Liu et al., Large-Margin Softmax Loss for Convolutional Neural Networks, ICML 2016, Eqs. 4 to 7.
    Differs: the schedule is that of SphereFace; the authors' examples have base=1000, gamma=2.5e-5, power=35 and
        minimum=0. margin may be any real number >= 1.
    """
    return ProxyLoss(task, similarity=dot, margin=Multiplicative(margin=margin, annealing=annealing), init=he_normal)


@LOSSES.register("a_softmax")
def a_softmax(
    task: Task, /, *, margin: Factor = 4.0, annealing: Schedule = ANNEALED, scale: Positive | None = None
) -> ProxyLoss:
    """Multiply the angle to the own class by a margin, with centers of unit length (A-Softmax, SphereFace).

    loss = ell(z, y), z_j = r cos_j, z_y = r (psi(theta_y) + lambda cos_y) / (1 + lambda), r = ||x||, or the scale if it
    is given; psi and lambda are those of l_softmax.

    Source: Liu et al., SphereFace, CVPR 2017, Eqs. 6 and 7, with the annealing of the authors' code.
    Differs: the authors normalise no embeddings (scale=null).
    """
    return _sphere(task, margin, annealing, scale)


@LOSSES.register("af_softmax")
def af_softmax(
    task: Task,
    /,
    *,
    margin: Factor = 4.0,
    annealing: Schedule = ANNEALED,
    scale: Positive | None = None,
    gamma: NonNegative = 2.0,
) -> ProxyLoss:
    """Weigh the samples of a_softmax by how unsure they are (AF-Softmax, angular focal).

    loss = (1 - p)^gamma ell(z, y), p = exp(z_y) / sum_j exp(z_j), z of a_softmax.

    Source: Li et al., Angular Focal Softmax, IC-NIDC 2018.
    Differs: nothing known.
    Interpretation: the paper is not available; the focal loss on A-Softmax logits is what its name and abstract say.
    """
    return _sphere(task, margin, annealing, scale, weighting=(Focal(gamma),))


@LOSSES.register("uniformface")
def uniformface(
    task: Task,
    /,
    *,
    margin: Factor = 4.0,
    annealing: Schedule = ANNEALED,
    uniform_weight: NonNegative = 1.0,
    normalize: bool = True,
) -> ProxyLoss:
    """Spread the centers of a_softmax evenly (UniformFace).

    loss = a_softmax + lambda_u / (C (C-1)) sum_{i != j} 1 / (||w_i - w_j|| + 1), lambda_u = uniform_weight.

    Source: Duan et al., UniformFace, CVPR 2019, Eqs. 4 to 8.
    Differs: centers learn by gradient only; the paper moves them to class means besides.
    Interpretation: the paper leaves open whether the spread centers have unit length (normalize).
    """
    spread = Uniform(weight=uniform_weight, normalize=normalize)
    return _sphere(task, margin, annealing, None, regularizers=(spread,) if uniform_weight else ())


def _sphere(task: Task, factor: float, annealing: Annealing, scale: float | None, **slots: object) -> ProxyLoss:
    margin, similarity = Multiplicative(margin=factor, annealing=annealing), cosine if scale else class_cosine
    return ProxyLoss(task, similarity=similarity, margin=margin, scale=scale or 1.0, **slots)  # type: ignore[arg-type]


@LOSSES.register("sm_softmax")
def sm_softmax(task: Task, /, *, margin: NonNegative = 0.5, bias: bool = False) -> ProxyLoss:
    """Subtract a margin from the logit of the own class (soft-margin softmax).

    loss = ell(z, y), z_j = w_j . x + b_j, z_y = w_y . x + b_y - m. Nothing is normalised, so lengths can outgrow m.

    Source: Liang et al., Soft-Margin Softmax for Deep Classification, ICONIP 2017.
    Differs: nothing.
    """
    slots = {"margin": Additive(margin=margin), "init": uniform_over_dimensions}
    return ProxyLoss(task, similarity=dot, bias=linear_bias(task, bias), **slots)  # type: ignore[arg-type]


@LOSSES.register("em_softmax")
def em_softmax(
    task: Task, /, *, members: Count = 2, margin: NonNegative = 0.5, diversity_weight: NonNegative = 0.1
) -> ProxyLoss:
    """Train several heads of sm_softmax that must not see classes alike (EM-Softmax).

    loss = sum_v sm_softmax(W_v) + lambda sum_{v<u} HSIC(W_v, W_u), HSIC = tr(K_v H K_u H) / (C-1)^2, K_v = W_v W_v^T,
    H = I - 1/C, lambda = diversity_weight. The mean of the heads answers at test time.

    Source: Wang et al., Ensemble Soft-Margin Softmax Loss for Image Classification, IJCAI 2018.
    Differs: nothing known.
    Interpretation: members, margin and diversity_weight are this suite's choice.
    """
    diverse = members > 1 and diversity_weight > 0
    return ProxyLoss(
        task,
        similarity=dot,
        margin=Additive(margin=margin),
        members=members,
        ensemble=Hsic(weight=diversity_weight) if diverse else independent,
        init=uniform_over_dimensions,
    )


@LOSSES.register("am_softmax")
def am_softmax(task: Task, /, *, margin: NonNegative = 0.35, scale: Positive = 30.0) -> ProxyLoss:
    """Subtract a margin from the cosine to the own class (AM-Softmax, CosFace).

    loss = ell(z, y), z_j = s cos_j, z_y = s (cos_y - m).

    Source: Wang et al., Additive Margin Softmax for Face Verification, 2018; Wang et al., CosFace, CVPR 2018,
        Eq. 4 (scale=64).
    Differs: nothing.
    """
    return ProxyLoss(task, margin=Additive(margin=margin), scale=scale)


@LOSSES.register("arcface")
def arcface(
    task: Task,
    /,
    *,
    margin: Radians = 0.5,
    scale: Positive = 64.0,
    overflow: Overflow = "insightface",
    straight_through: bool = False,
) -> ProxyLoss:
    """Add a margin to the angle to the own class.

    loss = ell(z, y), z_j = s cos_j, z_y = s cos(theta_y + m).
    Once theta_y > pi - m, where cos(theta_y + m) rises again, overflow takes: insightface cos_y - m sin m (jumps);
    continuous -2 - cos(theta_y + m); easy applies the margin only where cos_y > 0; none changes nothing.

    Source: Deng et al., ArcFace, CVPR 2019, Eq. 3; overflow=insightface from the authors' MXNet code.
    Differs: gradients are those of the formula. The authors' PyTorch code has overflow=none and treats the margin as
        if its derivative were 1 (straight_through=true).
    """
    angular = Angular(margin=margin, overflow=overflow, straight_through=straight_through)
    return ProxyLoss(task, margin=angular, scale=scale)


@LOSSES.register("combined_margin")
def combined_margin(
    task: Task,
    /,
    *,
    m1: Annotated[float, Field(gt=0, le=64)] = 1.0,
    m2: Radians = 0.3,
    m3: NonNegative = 0.2,
    scale: Positive = 64.0,
    overflow: Literal["none", "monotone"] = "none",
) -> ProxyLoss:
    """Combine a factor on the angle to the own class, a margin on it and a margin on its cosine.

    loss = ell(z, y), z_j = s cos_j, z_y = s (cos(m1 theta_y + m2) - m3). overflow=monotone continues the cosine beyond
    pi as psi of l_softmax does, so that it falls for ever.

    Source: Deng et al., ArcFace, CVPR 2019, Eq. 4; its settings are (1, 0.3, 0.2) and (0.9, 0.4, 0.15).
    Differs: gradients are those of the formula, and all three margins count; the authors' PyTorch code ignores m2
        where m3 is given.
    """
    return ProxyLoss(task, margin=Combined(m1=m1, m2=m2, m3=m3, overflow=overflow), scale=scale)
