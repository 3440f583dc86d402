"""Losses that compare with proxies: by distance, by several centers per class, or with the proxy as the anchor."""

from __future__ import annotations

from typing import Literal

from dml_bench.errors import OptionError, Problem
from dml_bench.losses.centers import (
    LogSumExp,
    Soft,
    gaussian,
    gaussian_eighth,
    he_normal,
    nearest,
    uniform_over_centers,
)
from dml_bench.losses.loss import LOSSES, Task
from dml_bench.losses.margins import Additive, Angular, Overflow
from dml_bench.losses.objectives import Hinge, nca
from dml_bench.losses.proxy import ProxyLoss
from dml_bench.losses.proxy_anchor import ProxyAnchor
from dml_bench.losses.regularizers import Equidistant, MergeCenters
from dml_bench.losses.similarity import Gaussian, negative_squared_distance
from dml_bench.registry import Count, Finite, NonNegative, Positive, Radians


@LOSSES.register("proxy_nca")
def proxy_nca(task: Task, /, *, scale: Positive = 9.0, init: Literal["unit", "official"] = "unit") -> ProxyLoss:
    """Compare squared distances to one proxy per class, with the own class left out of the denominator.

    loss = -log( exp(-s d_y) / sum_{j != y} exp(-s d_j) ), d_j = ||x - w_j||^2. It may be negative, and the pull towards
    the own proxy never fades. It needs two classes. ``init``: proxies of length about 1, or entries from N(0, 1/64).

    Source: Movshovitz-Attias et al., No Fuss Distance Metric Learning using Proxies, ICCV 2017.
    Differs: the paper does not report the lengths of embeddings and proxies, whose product is the scale; 9 is what
        re-implementations use on CUB and Cars. Many of those have the own class in the denominator: proxy_nca_pp.
    """
    if task.num_classes < 2:
        raise OptionError([Problem(("num_classes",), "must be >= 2 for proxy_nca, which compares with other classes")])
    start = gaussian if init == "unit" else gaussian_eighth
    return ProxyLoss(task, similarity=negative_squared_distance, scale=scale, objective=nca, init=start)


@LOSSES.register("proxy_nca_pp")
def proxy_nca_pp(
    task: Task, /, *, temperature: Positive = 1 / 9, init: Literal["unit", "official"] = "unit"
) -> ProxyLoss:
    """Compare squared distances to one proxy per class by softmax (ProxyNCA++).

    loss = -log( exp(-d_y / T) / sum_j exp(-d_j / T) ), d_j = ||x - w_j||^2, T = temperature. As all lengths are 1, this
    is norm_softmax with scale 2 / T. ``init``: proxies of length about 1, or entries from N(0, 1/64), which at 2048
    dimensions have length 5.7 and turn more slowly.

    Source: Teh et al., ProxyNCA++, ECCV 2020.
    Differs: the paper's other parts (max pooling, LayerNorm, balanced batches, fast proxies) are no part of the loss.
    """
    start = gaussian if init == "unit" else gaussian_eighth
    return ProxyLoss(task, similarity=negative_squared_distance, scale=1 / temperature, init=start)


@LOSSES.register("softtriple")
def softtriple(
    task: Task,
    /,
    *,
    centers_per_class: Count = 10,
    scale: Positive = 20.0,
    gamma: Positive = 0.1,
    margin: NonNegative = 0.01,
    regularizer_weight: NonNegative = 0.2,
    pooling: Literal["soft", "logsumexp"] = "soft",
    init: Literal["unit", "official"] = "unit",
) -> ProxyLoss:
    """Give each class several centers, softly choose among them, and merge those that are not needed.

    S_j = sum_k q_jk x . w_jk, q_j = softmax_k(x . w_jk / gamma);
    loss = -log( exp(s (S_y - m)) / (exp(s (S_y - m)) + sum_{j != y} exp(s S_j)) ) + tau R,
    R = sum_j sum_{t<u} sqrt(2 + 1e-5 - 2 w_jt . w_ju) / (C K (K-1)), tau = regularizer_weight, K = centers_per_class.
    pooling=logsumexp takes S_j = gamma log sum_k exp(x . w_jk / gamma).

    Source: Qian et al., SoftTriple Loss, ICCV 2019, section 3; divisor and 1e-5 from the authors' code.
    Differs: centers start in random directions with length about 1; init=official draws them from
        U(-1/sqrt(C K), 1/sqrt(C K)), shorter the more there are, which acts as a higher learning rate.
    """
    return ProxyLoss(
        task,
        centers_per_class=centers_per_class,
        pooling=Soft(gamma=gamma) if pooling == "soft" else LogSumExp(gamma=gamma),
        margin=Additive(margin=margin),
        scale=scale,
        regularizers=_merging(regularizer_weight),
        init=gaussian if init == "unit" else uniform_over_centers,
    )


def _merging(weight: float) -> tuple[MergeCenters, ...]:
    return (MergeCenters(weight=weight),) if weight else ()


@LOSSES.register("hardtriple")
def hardtriple(
    task: Task,
    /,
    *,
    centers_per_class: Count = 10,
    scale: Positive = 20.0,
    margin: NonNegative = 0.01,
    regularizer_weight: NonNegative = 0.0,
) -> ProxyLoss:
    """Give each class several centers, of which the nearest counts.

    S_j = max_k x . w_jk; loss and regularizer are those of softtriple, of which this is the limit for gamma to 0.

    Source: Qian et al., SoftTriple Loss, ICCV 2019, section 3.
    Differs: the paper's version has no regularizer; here it is optional.
    """
    return ProxyLoss(
        task,
        centers_per_class=centers_per_class,
        pooling=nearest,
        margin=Additive(margin=margin),
        scale=scale,
        regularizers=_merging(regularizer_weight),
    )


@LOSSES.register("subcenter_arcface")
def subcenter_arcface(
    task: Task,
    /,
    *,
    centers_per_class: Count = 3,
    margin: Radians = 0.5,
    scale: Positive = 64.0,
    overflow: Overflow = "insightface",
) -> ProxyLoss:
    """Give each class of arcface several centers, of which the nearest counts (Sub-center ArcFace).

    loss = ell(z, y), z_j = s C_j, z_y = s cos(arccos(C_y) + m), C_j = max_k x^ . w_jk^; overflow is that of arcface.

    Source: Deng et al., Sub-center ArcFace, ECCV 2020, Eq. 2.
    Differs: the paper drops samples far from their class's main center after training; that is no part of the loss.
    """
    angular = Angular(margin=margin, overflow=overflow)
    return ProxyLoss(task, centers_per_class=centers_per_class, pooling=nearest, margin=angular, scale=scale)


@LOSSES.register("affinity")
def affinity(
    task: Task,
    /,
    *,
    margin: Finite = 0.75,
    sigma: Positive = 10.0,
    centers_per_class: Count = 1,
    regularizer_weight: NonNegative = 1.0,
) -> ProxyLoss:
    """Compare Gaussian affinities to centers by hinges, and keep all centers equally far apart.

    loss = sum_{j != y} max(0, m + a_j - a_y) + weight R, a_j = max_k exp(-||x - w_jk||^2 / sigma); R is the variance of
    the squared distances between all C K centers. Nothing is normalised.

    Source: Hayat et al., Gaussian Affinity for Max-margin Class Imbalanced Learning, ICCV 2019, Eqs. 3 to 6.
    Differs: nothing. A widely copied port counts each center as a neighbor of itself in R.
    """
    return ProxyLoss(
        task,
        similarity=Gaussian(sigma=sigma),
        centers_per_class=centers_per_class,
        pooling=nearest,
        objective=Hinge(margin=margin),
        regularizers=(Equidistant(weight=regularizer_weight),) if regularizer_weight else (),
        init=he_normal,
    )


@LOSSES.register("proxy_anchor")
def proxy_anchor(task: Task, /, *, margin: NonNegative = 0.1, scale: Positive = 32.0) -> ProxyAnchor:
    """Take proxies as anchors, each of which weighs the samples of the batch against each other (Proxy-Anchor).

    loss = mean over classes j in the batch of log(1 + sum_{x of j} exp(-s (cos_j - m)))
    + mean over all classes j of log(1 + sum_{x not of j} exp(s (cos_j + m))).

    Source: Kim et al., Proxy Anchor Loss for Deep Metric Learning, CVPR 2020, Eq. 4.
    Differs: nothing.
    """
    return ProxyAnchor(task, margin, scale)
