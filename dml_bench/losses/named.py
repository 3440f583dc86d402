"""The published softmax and proxy losses by name, each a choice of slots.

In the formulas x is an embedding, y its label, w_j the center of class j and w_jk the k-th of them, all of unit length
here; cos_j = x . w_j, and loss means the mean over the batch.
"""

from __future__ import annotations

from typing import Literal

from dml_bench.errors import OptionError, Problem
from dml_bench.losses.centers import LogSumExp, Soft, gaussian, nearest, uniform_over_centers
from dml_bench.losses.loss import LOSSES, Task
from dml_bench.losses.margins import Additive, Angular
from dml_bench.losses.objectives import nca
from dml_bench.losses.proxy import ProxyLoss
from dml_bench.losses.regularizers import merge_centers
from dml_bench.losses.similarity import negative_squared_distance
from dml_bench.registry import Count, NonNegative, Positive, Radians


@LOSSES.register("norm_softmax")
def norm_softmax(task: Task, /, *, scale: Positive = 20.0, learn_scale: bool = False) -> ProxyLoss:
    """Compare cosines to one center per class by softmax.

    loss = -log( exp(s cos_y) / sum_j exp(s cos_j) ), s = scale. It cannot fall below
    log(1 + (C-1) exp(-s C / (C-1))), so a scale that is too small never fits.

    Source: Wang et al., NormFace, ACM MM 2017; Zhai and Wu, Classification is a Strong Baseline for Deep Metric
        Learning, BMVC 2019.
    Differs: NormFace learns the scale (learn_scale); Zhai and Wu put a LayerNorm without parameters before it
        (an option of the embedder).
    """
    return ProxyLoss(task, scale=scale, learn_scale=learn_scale)


@LOSSES.register("am_softmax")
def am_softmax(task: Task, /, *, margin: NonNegative = 0.35, scale: Positive = 30.0) -> ProxyLoss:
    """Subtract a margin from the cosine to the own class (AM-Softmax, CosFace).

    loss = -log( exp(s (cos_y - m)) / (exp(s (cos_y - m)) + sum_{j != y} exp(s cos_j)) ).

    Source: Wang et al., Additive Margin Softmax for Face Verification, 2018; Wang et al., CosFace, CVPR 2018,
        Eq. 4 (scale=64).
    Differs: nothing.
    """
    return ProxyLoss(task, margin=Additive(margin), scale=scale)


@LOSSES.register("arcface")
def arcface(
    task: Task,
    /,
    *,
    margin: Radians = 0.5,
    scale: Positive = 64.0,
    overflow: Literal["insightface", "continuous", "easy", "none"] = "insightface",
    straight_through: bool = False,
) -> ProxyLoss:
    """Add a margin to the angle to the own class.

    loss = -log( exp(s cos(theta_y + m)) / (exp(s cos(theta_y + m)) + sum_{j != y} exp(s cos_j)) ), cos theta_y = cos_y.
    Once theta_y > pi - m, where cos(theta_y + m) rises again, overflow takes: insightface cos_y - m sin m (jumps);
    continuous -2 - cos(theta_y + m); easy applies the margin only where cos_y > 0; none changes nothing.

    Source: Deng et al., ArcFace, CVPR 2019, Eq. 3; overflow=insightface from the authors' MXNet code.
    Differs: gradients are those of the formula. The authors' PyTorch code has overflow=none and treats the margin as
        if its derivative were 1 (straight_through=true).
    """
    return ProxyLoss(task, margin=Angular(margin, overflow, straight_through), scale=scale)


@LOSSES.register("proxy_nca")
def proxy_nca(task: Task, /, *, scale: Positive = 9.0) -> ProxyLoss:
    """Compare squared distances to one proxy per class, with the own class left out of the denominator.

    loss = -log( exp(-s d_y) / sum_{j != y} exp(-s d_j) ), d_j = ||x - w_j||^2. It may be negative, and the pull towards
    the own proxy never fades. It needs two classes.

    Source: Movshovitz-Attias et al., No Fuss Distance Metric Learning using Proxies, ICCV 2017.
    Differs: the paper does not report the lengths of embeddings and proxies, whose product is the scale; 9 is what
        re-implementations use on CUB and Cars. Many of those have the own class in the denominator: proxy_nca_pp.
    """
    if task.num_classes < 2:
        raise OptionError([Problem(("num_classes",), "must be >= 2 for proxy_nca, which compares with other classes")])
    return ProxyLoss(task, similarity=negative_squared_distance, scale=scale, objective=nca)


@LOSSES.register("proxy_nca_pp")
def proxy_nca_pp(task: Task, /, *, temperature: Positive = 1 / 9) -> ProxyLoss:
    """Compare squared distances to one proxy per class by softmax (ProxyNCA++).

    loss = -log( exp(-d_y / T) / sum_j exp(-d_j / T) ), d_j = ||x - w_j||^2, T = temperature. As all lengths are 1, this
    is norm_softmax with scale 2 / T.

    Source: Teh et al., ProxyNCA++, ECCV 2020.
    Differs: the paper's other parts (max pooling, LayerNorm, balanced batches, fast proxies) are no part of the loss.
    """
    return ProxyLoss(task, similarity=negative_squared_distance, scale=1 / temperature)


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
        pooling=Soft(gamma) if pooling == "soft" else LogSumExp(gamma),
        margin=Additive(margin),
        scale=scale,
        regularizer=merge_centers,
        regularizer_weight=regularizer_weight,
        init=gaussian if init == "unit" else uniform_over_centers,
    )


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
        margin=Additive(margin),
        scale=scale,
        regularizer=merge_centers,
        regularizer_weight=regularizer_weight,
    )
