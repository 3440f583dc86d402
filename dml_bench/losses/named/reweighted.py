"""Softmax that weighs samples, classes or negatives, for imbalance, label noise and hard examples."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field

from dml_bench.losses.centers import on_sphere, uniform_over_dimensions
from dml_bench.losses.centroids import CenterDispersed
from dml_bench.losses.loss import LOSSES, Task
from dml_bench.losses.margins import Additive, Angular, Overflow
from dml_bench.losses.named.softmax import linear_bias
from dml_bench.losses.negatives import SupportVector
from dml_bench.losses.objectives import Bootstrap, Objective, Sigmoid, nothing, softmax
from dml_bench.losses.proxy import ProxyLoss
from dml_bench.losses.regularizers import Uniform
from dml_bench.losses.similarity import dot
from dml_bench.losses.unequal import UnequalTraining
from dml_bench.losses.weighting import Hardest, class_weights, focal
from dml_bench.registry import Fraction, NonNegative, Positive, Probability, Radians

FactorAbove1 = Annotated[float, Field(ge=1, allow_inf_nan=False)]
Below1 = Annotated[float, Field(ge=0, lt=1)]


@LOSSES.register("ohem")
def ohem(
    task: Task, /, *, bias: bool = True, keep_ratio: Fraction = 0.7, threshold: Probability | None = None
) -> ProxyLoss:
    """Average only the highest costs of a batch (online hard example mining on softmax_ce).

    loss = mean of the k largest ell(z, y), z_j = w_j . x + b_j, k = max(1, floor(keep_ratio N)). With a threshold, the
    samples whose probability of the own class is below it count as well.

    Source: Shrivastava et al., Training Region-based Object Detectors with Online Hard Example Mining, CVPR 2016.
    Differs: samples of a batch take the place of regions of an image.
    """
    weighting = (Hardest(keep_ratio=keep_ratio, threshold=threshold),)
    return ProxyLoss(
        task, similarity=dot, bias=linear_bias(task, bias), weighting=weighting, init=uniform_over_dimensions
    )


@LOSSES.register("focal")
def focal_softmax(
    task: Task, /, *, bias: bool = True, gamma: NonNegative = 2.0, alpha: NonNegative | list[NonNegative] | None = None
) -> ProxyLoss:
    """Weigh samples by how unsure they are (focal loss on softmax_ce).

    loss = alpha_y (1 - p)^gamma ell(z, y), p = exp(-ell(z, y)), z_j = w_j . x + b_j; alpha is a number, or a list of
    one per class.

    Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, Eqs. 4 and 5.
    Differs: softmax for sigmoid, and the mean over samples for the sum over anchors by the number of positives.
    """
    weighting = (focal(task, gamma=gamma, alpha=alpha),)
    return ProxyLoss(
        task, similarity=dot, bias=linear_bias(task, bias), weighting=weighting, init=uniform_over_dimensions
    )


@LOSSES.register("class_balanced")
def class_balanced(
    task: Task,
    /,
    *,
    bias: bool = True,
    beta: Below1 = 0.999,
    base: Literal["softmax", "sigmoid", "focal"] = "softmax",
) -> ProxyLoss:
    """Weigh classes by the inverse of their effective number of images (class-balanced loss).

    loss = mean of v_y cost(z, y), z_j = w_j . x + b_j, v_c = (1 - beta) / (1 - beta^n_c) rescaled to sum to C, n_c
    images of class c. base=softmax: cost = ell(z, y); sigmoid: the binary cross-entropies of all classes added up;
    focal: the same, each times (1 - q)^2, q the probability of the right answer. The latter two start at a bias of
    -log(C-1), so that every class has the probability 1/C. The mean divides by N, not by the sum of the weights.

    Source: Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, Eqs. 5, 10 to 13.
    Differs: the authors' code averages sigmoid costs over classes as well.
    Interpretation: focal is the sigmoid form of that paper with its gamma of 2; the softmax form is
        ``{name: proxy, weighting: [focal, class_weights]}``.
    """
    objectives: dict[str, Objective] = {"softmax": softmax, "sigmoid": Sigmoid(), "focal": Sigmoid(gamma=2.0)}
    start = linear_bias(task, bias)
    if start is not None and base != "softmax":
        start = torch.full((task.num_classes,), -math.log(max(task.num_classes - 1, 1)))
    return ProxyLoss(
        task,
        similarity=dot,
        bias=start,
        objective=objectives[base],
        weighting=(class_weights(task, beta=beta),),
        init=uniform_over_dimensions,
    )


@LOSSES.register("nra")
def nra(
    task: Task,
    /,
    *,
    beta: Probability = 0.9,
    margin: Radians = 0.5,
    scale: Positive = 64.0,
    overflow: Overflow = "insightface",
) -> ProxyLoss:
    """Trust labels only so far, and the own prediction for the rest (noise-resistance loss on arcface).

    loss = beta ell(z, y) + (1 - beta) ell(z, argmax_j z_j) with the logits z of arcface, margin included; the argmax is
    constant in the gradient.

    Source: Zhong et al., Unequal-training for Deep Face Recognition with Long-tailed Noisy Data, CVPR 2019.
    Differs: the paper lets the weight depend on the prediction; the authors' code, as here, has a constant. Their
        scripts take half and twice the mean over the batch.
    """
    angular = Angular(margin=margin, overflow=overflow)
    return ProxyLoss(task, margin=angular, objective=Bootstrap(beta=beta), scale=scale)


@LOSSES.register("center_dispersed")
def center_dispersed(task: Task, /, *, weight: NonNegative = 1.0) -> CenterDispersed:
    """Make the mean directions of the classes in a batch orthogonal; it needs several images of a class.

    loss = weight / M^2 sum_{i != j} (v_i . v_j)^2 over the M classes of the batch, v_i the mean of x^ over class i,
    brought to unit length.

    Source: Zhong et al., Unequal-training for Deep Face Recognition with Long-tailed Noisy Data, CVPR 2019, sec. 3.4.
    Differs: the authors raise the weight by hand, from 0.01 over 1 to 5; here it is constant.
    """
    return CenterDispersed(task, weight)


@LOSSES.register("unequal_training")
def unequal_training(
    task: Task,
    /,
    *,
    beta: Probability = 0.9,
    margin: Radians = 0.5,
    scale: Positive = 64.0,
    overflow: Overflow = "insightface",
    weight: NonNegative = 1.0,
) -> UnequalTraining:
    """Classify frequent classes against label noise, and only spread rare ones out.

    loss = nra over the samples of frequent classes + center_dispersed over those of rare ones. A class is frequent if
    it has at least the mean number of training images per class.

    Source: Zhong et al., Unequal-training for Deep Face Recognition with Long-tailed Noisy Data, CVPR 2019.
    Differs: both kinds share a batch, and rare classes have centers too, which only repel; the authors train the two
        branches on batches and classes of their own.
    Interpretation: where rare ends; the paper splits its data by hand.
    """
    angular = Angular(margin=margin, overflow=overflow)
    return UnequalTraining(task, weight, margin=angular, objective=Bootstrap(beta=beta), scale=scale)


@LOSSES.register("sv_softmax")
def sv_softmax(task: Task, /, *, t: FactorAbove1 = 1.2, scale: Positive = 30.0) -> ProxyLoss:
    """Raise the cosines of the classes that beat the own one (SV-Softmax, support vectors).

    loss = ell(z, y), z_y = s cos_y, z_j = s (t cos_j + t - 1) where cos_j > cos_y, else s cos_j. t=1 is norm_softmax.

    Source: Wang et al., Support Vector Guided Softmax Loss for Face Recognition, 2018.
    Differs: nothing. The code of its successor, MV-Softmax, calls t - 1 t.
    """
    return ProxyLoss(task, negatives=SupportVector(t=t), scale=scale)


@LOSSES.register("sv_am_softmax")
def sv_am_softmax(
    task: Task, /, *, t: FactorAbove1 = 1.2, scale: Positive = 30.0, margin: NonNegative = 0.35
) -> ProxyLoss:
    """Raise the cosines of the classes that beat the own one less a margin (SV-AM-Softmax).

    loss = ell(z, y), z_y = s f, f = cos_y - m, z_j = s (t cos_j + t - 1) where cos_j > f, else s cos_j.

    Source: Wang et al., Support Vector Guided Softmax Loss for Face Recognition, 2018.
    Differs: the margin counts at any angle, as in the paper; the code of MV-Softmax leaves it out where cos_y <= 0.
    """
    return ProxyLoss(task, margin=Additive(margin=margin), negatives=SupportVector(t=t), scale=scale)


@LOSSES.register("sv_arc_softmax")
def sv_arc_softmax(task: Task, /, *, t: FactorAbove1 = 1.2, scale: Positive = 30.0, margin: Radians = 0.5) -> ProxyLoss:
    """Raise the cosines of the classes that beat the own one less an angle (SV-Arc-Softmax).

    loss = ell(z, y), z_y = s f, f = cos(theta_y + m) with overflow=insightface of arcface,
    z_j = s (t cos_j + t - 1) where cos_j > f, else s cos_j.

    Source: Wang et al., Support Vector Guided Softmax Loss for Face Recognition, 2018.
    Differs: the margin counts at any angle, as in the paper; the code of MV-Softmax leaves it out where cos_y <= 0.
    """
    return ProxyLoss(task, margin=Angular(margin=margin), negatives=SupportVector(t=t), scale=scale)


@LOSSES.register("uniform_loss")
def uniform_loss(task: Task, /, *, weight: NonNegative = 1.0, normalize: bool = True) -> ProxyLoss:
    """Spread centers evenly, and nothing else: the regularizer of uniformface by itself.

    loss = weight / (C (C-1)) sum_{i != j} 1 / (||w_i - w_j|| + 1). Embeddings get no gradient.

    Source: Duan et al., UniformFace, CVPR 2019, Eq. 6.
    Differs: nothing known.
    Interpretation: the paper leaves open whether centers have unit length (normalize).
    """
    spread = Uniform(weight=weight, normalize=normalize)
    return ProxyLoss(task, objective=nothing, regularizers=(spread,), init=on_sphere)
