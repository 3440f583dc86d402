"""Diagnostics: the shape of the cloud of embeddings, beside what is found in it.

Embeddings are L2-normalised unless the distance is Euclidean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dml_bench.evaluation.metrics import METRICS, GeometryMetric, Labels, Metric

if TYPE_CHECKING:
    from dml_bench.search.points import Points


@METRICS.register("intra_inter_ratio")
def intra_inter_ratio() -> Metric:
    """Mean distance of two items of a class over mean distance of two class centers, pi_intra / pi_inter.

    Both are Euclidean; the first is the mean over all pairs of different items of the same class, the second over all
    pairs of different classes of the distance of the means of their vectors. At least two classes, one with two items.
    Neither a high nor a low value is better: the paper finds embeddings of unseen classes better where it is higher.

    Source: Roth et al., "Revisiting training strategies and generalization performance in deep metric learning", ICML
    2020, section 5.

    Interpretation: the normalising constants Z of the paper are the numbers of pairs, and centers are not normalised.

    Differs: the authors' code takes cosine distances, normalises centers, and averages over classes first.
    """

    def score(points: Points, labels: Labels) -> float:
        from dml_bench.evaluation import geometry

        return geometry.intra_inter_ratio(points, labels)

    return GeometryMetric("intra_inter_ratio", None, share=False, score=score)


@METRICS.register("alignment")
def alignment() -> Metric:
    """Mean squared Euclidean distance of two items of the same class; 0 to 4 for embeddings of length 1.

    Every pair of different items of a class counts the same, so large classes count more. One class needs two items.
    Where all embeddings are the same point it is 0: read it beside uniformity.

    Source: Wang and Isola, "Understanding contrastive representation learning through alignment and uniformity on the
    hypersphere", ICML 2020, section 4.1, with alpha = 2; positive pairs are those of a class.
    """

    def score(points: Points, labels: Labels) -> float:
        from dml_bench.evaluation import geometry

        return geometry.alignment(points, labels)

    return GeometryMetric("alignment", "lower", share=False, score=score)


@METRICS.register("uniformity")
def uniformity() -> Metric:
    """Logarithm of the mean of exp(-2 ||x - y||^2) over all pairs of different items; 0 if all are the same point.

    -8 to 0 for embeddings of length 1; the more evenly they cover the sphere, the lower. Classes play no part.

    Source: Wang and Isola, "Understanding contrastive representation learning through alignment and uniformity on the
    hypersphere", ICML 2020, section 4.1, with t = 2.

    Differs: the paper's expectation is over independent draws; here, as in the authors' code, no item meets itself.
    """

    def score(points: Points, labels: Labels) -> float:
        from dml_bench.evaluation import geometry

        return geometry.uniformity(points)

    return GeometryMetric("uniformity", "lower", share=False, score=score)


@METRICS.register("spectral_decay")
def spectral_decay() -> Metric:
    """KL(uniform || singular values of the embeddings, divided by their sum), in nats; 0 if all D are equal.

    The singular values are those of the N x D matrix of embeddings, whose mean is not taken off; all D count. The
    higher, the fewer directions carry the embeddings; the paper finds those of unseen classes better where it is lower.
    If they span fewer than D dimensions, as N < D must, it is infinite, which is an error.

    Source: Roth et al., "Revisiting training strategies and generalization performance in deep metric learning", ICML
    2020, section 5, rho(Phi).

    Differs: the authors' code finds D - 1 singular values on the CPU, all D on a GPU; its ``rho_spectrum@1`` is this
    one and ``rho_spectrum@2`` drops the largest.
    """

    def score(points: Points, labels: Labels) -> float:
        from dml_bench.evaluation import geometry

        return geometry.spectral_decay(points)

    return GeometryMetric("spectral_decay", None, share=False, score=score)
