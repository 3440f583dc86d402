"""Compare classes with clusters."""

from __future__ import annotations

from dml_bench.evaluation.metrics import METRICS, ClusterMetric, Labels, Metric


def normalized_mutual_information(labels: Labels, clusters: Labels) -> float:
    """Return 2 I(labels; clusters) / (H(labels) + H(clusters)); 1 if both are a single group."""
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(labels, clusters, average_method="arithmetic"))


@METRICS.register("nmi")
def nmi() -> Metric:
    """Normalised mutual information between classes and the k-means clusters of all items, 2 I / (H + H).

    As many clusters as classes, Euclidean k-means on the L2-normalised embeddings. The mean over ``restarts`` seeded
    restarts; ``nmi_restart_std`` beside it is their sample standard deviation (n - 1; NaN for one restart).

    Differs: scikit-learn before 0.22 normalised by the geometric mean of the entropies unless told otherwise, so old
    published numbers can be higher in the decimals.
    """
    return ClusterMetric("nmi", score=normalized_mutual_information)
