"""Measure k-means and its metrics beside FAISS and scikit-learn, in one process with two threads.

Run it by ``python tests/bench/clusters.py``. Data are unit class directions plus noise, at the sizes of CUB (recall@1
about .6) and Stanford Online Products (about .7). FAISS makes 25 steps, as pytorch-metric-learning has it do.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score

from dml_bench.evaluation.clustering import adjusted_mutual_information
from dml_bench.search.clusters import restarts
from dml_bench.search.points import Points

THREADS = 2
SIZES = {"CUB": (5924, 512, 100, 3.5, 10), "SOP": (60502, 64, 11316, 1.1, 1)}
"""Items, dimensions, classes, noise, restarts."""


def noisy(items: int, dim: int, classes: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return unit embeddings and their classes; every class has an item."""
    generator = np.random.default_rng(0)
    labels = np.sort(np.concatenate([np.arange(classes), generator.integers(classes, size=items - classes)]))
    directions = generator.normal(size=(classes, dim))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    rows = directions[labels] + noise / np.sqrt(dim) * generator.normal(size=(items, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


def inertia(rows: np.ndarray, found: np.ndarray) -> float:
    """Return the sum of squared distances to the means."""
    sums = np.zeros((found.max() + 1, rows.shape[1]))
    np.add.at(sums, found, rows)
    means = sums / np.maximum(np.bincount(found), 1)[:, None]
    return float(np.square(rows - means[found]).sum())


def by_faiss(rows: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Cluster with faiss.Kmeans as pytorch-metric-learning does."""
    search = faiss.Kmeans(
        rows.shape[1], clusters, niter=25, seed=seed, min_points_per_centroid=1, max_points_per_centroid=len(rows)
    )
    search.train(rows)
    return search.index.search(rows, 1)[1][:, 0]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds and the result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def compare(name: str) -> None:
    """Print the rows of one size."""
    items, dim, classes, noise, times = SIZES[name]
    rows, labels = noisy(items, dim, classes, noise)
    ways: dict[str, Callable[[], list[np.ndarray]]] = {
        "ours": lambda: list(restarts(Points(rows), classes, range(times))),
        "faiss.Kmeans": lambda: [by_faiss(rows, classes, seed) for seed in range(times)],
    }
    if name == "CUB":
        ways["sklearn KMeans"] = lambda: [
            KMeans(classes, n_init=1, random_state=seed).fit(rows).labels_.astype(np.int64) for seed in range(times)
        ]
    for way, work in ways.items():
        seconds, found = timed(work)
        mean = np.mean([inertia(rows, f) for f in found])
        print(f"| {name} | k-means, {times} restarts | {way} | {seconds:.2f} | inertia {mean:.1f} |", flush=True)
        if way == "ours":
            clusters = found[0]
    seconds, value = timed(lambda: adjusted_mutual_information(labels, clusters))
    print(f"| {name} | AMI | ours | {seconds:.3f} | {value:.12f} |")
    if name == "CUB":
        seconds, value = timed(lambda: adjusted_mutual_info_score(labels, clusters))
        print(f"| {name} | AMI | sklearn | {seconds:.3f} | {value:.12f} |")


def main() -> None:
    """Print the whole table."""
    torch.set_num_threads(THREADS)
    faiss.omp_set_num_threads(THREADS)
    list(restarts(Points(noisy(500, 64, 20, 1.0)[0]), 20, [0]))  # nobody pays for the start of the threads
    print("| size | what | who | seconds | value |\n|---|---|---|---|---|")
    for name in SIZES:
        compare(name)


if __name__ == "__main__":
    main()
