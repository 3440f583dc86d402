"""Metrics of classification by the nearest class center.

A center is the mean of the vectors of a class in the gallery, without the query itself. Queries whose class has no
other item there have no center to be classified by; they are left out, as for recall@k.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

from dml_bench.evaluation.metrics import METRICS, CenterMetric, Labels, Metric


def per_class(
    labels: Labels, predicted: Labels
) -> tuple[Int64[np.ndarray, " C"], Int64[np.ndarray, " C"], Float64[np.ndarray, " C"]]:
    """Return the classes that queries have, how many queries each has, and the share of them that is right."""
    classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return classes, counts, np.bincount(codes, labels == predicted, minlength=len(classes)) / counts


@METRICS.register("center_accuracy")
def center_accuracy() -> Metric:
    """Share of queries whose nearest class center is that of their own class.

    A class's center is the mean of its vectors in the gallery, which are L2-normalised unless the distance is
    Euclidean; the mean itself is not normalised. Nearest is by Euclidean distance. A query that is in the gallery is
    left out of its own class's mean; queries whose class has no other item there are left out. At equal distance
    another class comes before the query's own.

    Source: Mensink, Verbeek, Perronnin and Csurka, "Distance-based image classification", TPAMI 2013: the
    nearest class mean, with the Euclidean distance.

    Differs: code that does not leave the query out of its class's mean finds more than is there in small classes.
    """
    return CenterMetric("center_accuracy", score=lambda labels, predicted: float(np.mean(labels == predicted)))


@METRICS.register("center_accuracy_macro")
def center_accuracy_macro() -> Metric:
    """Mean over classes of the share of a class's queries whose nearest class center is their own.

    Centers, ties and queries as for center_accuracy; every class counts the same, however many queries it has.

    Source: as for center_accuracy.
    """
    return CenterMetric(
        "center_accuracy_macro", score=lambda labels, predicted: float(per_class(labels, predicted)[2].mean())
    )
