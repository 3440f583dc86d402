"""Measure the evaluation beside other implementations, in one process with two threads.

``python tests/bench/evaluation.py > results/benchmarks/evaluation.md`` writes the page; names of parts after it
(``recall full wide growth cub ami``) measure those alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dml_bench.evaluation.clustering import adjusted_mutual_information
from dml_bench.evaluation.evaluate import evaluate

HEAD = """# Evaluation beside its rivals

Written by `python tests/bench/evaluation.py > results/benchmarks/evaluation.md`: ours and the rival's in one process.
The data are unit vectors of classes with noise; 60,502 items of 11,316 classes in 64 dimensions have the size of
Stanford Online Products, 5,924 items of 100 classes in 512 dimensions that of CUB-200-2011. `wanted` is what the ratio
(theirs / ours) is to reach, or the seconds are to stay below.
"""

SOP, CUB = (60_502, 64, 11_316, 1.15), (5_924, 512, 100, 4.2)
"""Items, dimensions, classes and noise."""


def data(items: int, dim: int, classes: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings and labels, every class with at least two items, in random order."""
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.arange(classes), np.arange(classes), rng.integers(0, classes, items - 2 * classes)])
    rng.shuffle(labels)
    centers = rng.standard_normal((classes, dim))
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    found = centers[labels] + noise * rng.standard_normal((items, dim)) / np.sqrt(dim)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32), labels


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long ``work`` takes, and what it returns."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def recall() -> Iterator[str]:
    """Recall up to 1000 beside a FAISS list."""
    import faiss

    x, y = data(*SOP)
    ks = (1, 10, 100, 1000)
    faiss.omp_set_num_threads(torch.get_num_threads())

    def theirs() -> list[float]:
        index = faiss.IndexFlatIP(x.shape[1])
        index.add(x)
        _, found = index.search(x, 1001)
        hit = (y[found] == y[:, None]) & (found != np.arange(len(x))[:, None])
        itself = found == np.arange(len(x))[:, None]
        rank = np.where(hit.any(1), hit.argmax(1) + 1 - (itself.argmax(1) < hit.argmax(1)) * itself.any(1), 10**9)
        return [float((rank <= k).mean()) for k in ks]

    best, ours = min(seconds(lambda: evaluate(x, y, [f"recall@{k}" for k in ks])) for _ in range(2))
    rival, expected = seconds(theirs)
    same = "same values" if list(ours.values()) == expected else f"values differ: {list(ours.values())} {expected}"
    yield row("recall@1,10,100,1000", "faiss.IndexFlatIP, k = 1001", best, rival, 6, same)
    yield from memory("recall@1,recall@10,recall@100,recall@1000")


def memory(metrics: str) -> Iterator[str]:
    """Tell the memory of a process of its own, above what the embeddings and the libraries take."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import evaluation as e, torch, numpy as np\n"
        "torch.set_num_threads(2); x, y = e.data(*e.SOP); from dml_bench.evaluation.evaluate import evaluate\n"
        "evaluate(x[:3000], np.arange(3000) % 300, sys.argv[2].split(','))\n"
        "open('/proc/self/clear_refs', 'w').write('5')  # the peak starts anew\n"
        "peak = lambda: int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
        "before = peak(); evaluate(x, y, sys.argv[2].split(',')); print((peak() - before) // 1024)"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), metrics]
    used = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    yield f"| working memory of that | | {used} MiB | | | 1024 MiB | {'ok' if used < 1024 else 'TOO MUCH'} |"


def full() -> Iterator[str]:
    """Everything that papers report beside pytorch-metric-learning."""
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    x, y = data(*SOP)
    names = [*(f"recall@{k}" for k in (1, 10, 100, 1000)), "map@r", "r_precision", "nmi"]
    best, ours = min(seconds(lambda: evaluate(x, y, names)) for _ in range(2))
    include = ("precision_at_1", "mean_average_precision_at_r", "r_precision", "NMI")
    calculator = AccuracyCalculator(include=include, k="max_bin_count", device=torch.device("cpu"))
    rival, found = seconds(lambda: calculator.get_accuracy(torch.from_numpy(x), torch.from_numpy(y)))
    pairs = zip(("recall@1", "map@r", "r_precision", "nmi"), include, strict=True)
    values = ", ".join(f"{name} {ours[name]:.5f} / {found[theirs]:.5f}" for name, theirs in pairs)
    yield row("recall@k, map@r, r_precision, nmi", "PML AccuracyCalculator", best, rival, 6, values)


def wide() -> Iterator[str]:
    """How much of the time at 512 dimensions is the matrix product, and how fast that is."""
    x, y = data(30_000, 512, 5_600, 3.0)
    a = torch.randn(4096, 4096)
    peak = 2 * 4096**3 / min(seconds(lambda: a @ a)[0] for _ in range(5)) / 1e9
    for metrics in (["recall@1", "recall@1000"], ["recall@1", "recall@1000", "map@r"]):
        took = min(seconds(lambda metrics=metrics: evaluate(x, y, metrics))[0] for _ in range(2))
        product = 2 * len(x) ** 2 * x.shape[1] / 2  # half of a symmetric table
        rate = product / took / 1e9
        good = "ok" if rate > 0.6 * peak else "LESS"
        speed = f"{rate:.0f} of {peak:.0f} GFLOP/s | {rate / peak:.2f} | 0.6 | {good} |"
        yield f"| {', '.join(metrics)} of 30,000 x 512 | product of 4096 x 4096 | {took:.2f} s | {speed}"


def growth() -> Iterator[str]:
    """How time grows with the number of items."""
    for items in (10_000, 20_000, 40_000, 80_000):
        x, y = data(items, 64, items // 5, 1.15)
        took = min(seconds(lambda x=x, y=y: evaluate(x, y, ["recall@1", "map@r"]))[0] for _ in range(2))
        yield f"| recall@1, map@r of {items:,} x 64 | | {took:.2f} s | | {took / items**2 * 1e9:.2f} ns a pair | | |"


def cub() -> Iterator[str]:
    """Everything at the size of CUB."""
    x, y = data(*CUB)
    names = ["recall@1", "recall@2", "recall@4", "recall@8", "map@r", "r_precision", "nmi"]
    took, scores = min(seconds(lambda: evaluate(x, y, names, restarts=10)) for _ in range(3))
    good = "ok" if took < 1 else "SLOW"
    what = f"5,924 x 512 with recall@1 {scores['recall@1']:.2f}: all, 10 k-means restarts"
    yield f"| {what} | | {took:.2f} s | | | 1 s | {good} |"


def ami() -> Iterator[str]:
    """Adjusted mutual information with as many clusters as classes."""
    from sklearn.metrics import adjusted_mutual_info_score

    rng = np.random.default_rng(0)
    labels, clusters = np.sort(rng.integers(0, 11_316, 60_502)), rng.integers(0, 11_316, 60_502)
    clusters = np.where(rng.random(60_502) < 0.7, labels, clusters)
    best, ours = min(seconds(lambda: adjusted_mutual_information(labels, clusters)) for _ in range(3))
    rival, theirs = seconds(lambda: adjusted_mutual_info_score(labels, clusters))
    yield row("ami, 11,316 classes", "scikit-learn", best, rival, 6, f"difference {abs(ours - theirs):.1e}")


def row(what: str, rival: str, ours: float, theirs: float, wanted: float, note: str) -> str:
    """Write a line of the table."""
    ratio = theirs / ours
    verdict = "ok" if ratio >= wanted else "SLOW"
    return f"| {what} | {rival} | {ours:.2f} s | {theirs:.2f} s | {ratio:.1f} | {wanted} | {verdict}; {note} |"


PARTS = {part.__name__: part for part in (recall, full, wide, growth, cub, ami)}


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    chosen = parser.parse_args().parts or PARTS
    torch.set_num_threads(2)
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "faiss-cpu", "pytorch-metric-learning"))
    print(HEAD, f"\n{processor()}, 2 threads of {os.cpu_count()} cores, {libraries}.\n", sep="")
    print("| what | rival | ours | rival | ratio | wanted | |\n|---|---|---|---|---|---|---|")
    for name in chosen:
        for line in PARTS[name]():
            print(line, flush=True)


def processor() -> str:
    """Return the processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())


if __name__ == "__main__":
    main()
