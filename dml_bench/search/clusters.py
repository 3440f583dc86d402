"""K-means with FAISS: exact assignments, all points, seeded."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64

from dml_bench.search.threads import faiss_threads

ITERATIONS = 100
"""Upper limit; most clusterings stop changing after 15 to 40."""


def kmeans(embeddings: Float[np.ndarray, "N D"], clusters: int, seed: int) -> Int64[np.ndarray, " N"]:
    """Return the cluster of each row under Euclidean k-means from a k-means++ start.

    The result depends on the rows and ``seed`` alone. Where there are no more than ``clusters`` distinct rows,
    each is a cluster of its own.

    Args:
        embeddings: finite rows.
        clusters: how many clusters, at least 1; may exceed N.
        seed: 0 or more.

    Source: Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007, section 2.2.
    """
    if clusters < 1:
        raise ValueError(f"clusters must be at least 1, not {clusters}")
    points = _spread(embeddings)
    generator = np.random.default_rng(seed)
    centers, nearest, done = _plus_plus(points, clusters, generator)
    return nearest if done else _lloyd(points, centers, int(generator.integers(2**31)))


def _spread(embeddings: Float[np.ndarray, "N D"]) -> Float32[np.ndarray, "N D"]:
    """Move the mean to 0 and scale to [-1, 1], so that float32 can tell nearly collapsed embeddings apart."""
    centered = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    return np.ascontiguousarray(centered / (np.abs(centered).max() or 1.0), dtype=np.float32)


def _plus_plus(
    points: Float32[np.ndarray, "N D"], clusters: int, generator: np.random.Generator
) -> tuple[Float32[np.ndarray, "C D"], Int64[np.ndarray, " N"], bool]:
    """Draw centers among the points, each with probability proportional to the squared distance to those before.

    Returns:
        The centers, the nearest center of each point, and whether every point lies on its center.
    """
    rows = torch.from_numpy(points)
    chosen = [int(generator.integers(len(points)))]
    squared = np.full(len(points), np.inf)
    nearest = np.zeros(len(points), dtype=np.int64)
    while True:
        # Differences rather than a matrix product: the distance between equal points is exactly 0.
        gap = torch.cdist(rows, rows[chosen[-1:]], compute_mode="donot_use_mm_for_euclid_dist")
        candidate = gap[:, 0].double().square().numpy()
        nearest[candidate < squared] = len(chosen) - 1
        squared = np.minimum(squared, candidate)
        done = not squared.any()
        if done or len(chosen) == clusters:
            return points[chosen], nearest, done
        chosen.append(int(generator.choice(len(points), p=squared / squared.sum())))


def _lloyd(
    points: Float32[np.ndarray, "N D"], centers: Float32[np.ndarray, "C D"], seed: int
) -> Int64[np.ndarray, " N"]:
    """Move ``centers`` until nothing changes and return the nearest center of each point."""
    import faiss

    total, dim = points.shape
    search = faiss.Kmeans(
        dim, len(centers), niter=ITERATIONS, seed=seed, min_points_per_centroid=1, max_points_per_centroid=total
    )
    with faiss_threads():
        search.train(points, init_centroids=centers)
        _, assignment = search.assign(points)
    result: Int64[np.ndarray, " N"] = assignment
    return result
