"""Proxy and center losses, in plain loops over Python floats."""

import math

from dml_bench.testing.oracle.plain import distance, dot, log_one_plus_sum_exp, log_sum_exp, mean, unit
from dml_bench.testing.oracle.scores import classify, cosines, cross_entropy, first_center, squared_distances


def proxy_nca(x, y, centers, scale=9.0, init=None):
    rows = []
    for row, label in zip(squared_distances(x, centers), y, strict=True):
        others = [-scale * d for j, d in enumerate(row) if j != label]
        rows.append(scale * row[label] + log_sum_exp(others))
    return mean(rows)


def proxy_nca_pp(x, y, centers, temperature=1 / 9, init=None):
    rows = squared_distances(x, centers)
    return mean(cross_entropy([-d / temperature for d in row], label) for row, label in zip(rows, y, strict=True))


def soft(values, gamma):
    weights = [math.exp((v - max(values)) / gamma) for v in values]
    return dot(weights, values) / sum(weights)


def center_spread(centers):
    total, k = 0.0, len(centers[0])
    for group in centers:
        for t in range(k):
            for u in range(t + 1, k):
                total += math.sqrt(2 + 1e-5 - 2 * dot(unit(group[t]), unit(group[u])))
    return total / (len(centers) * k * (k - 1)) if k > 1 else 0.0


def softtriple(
    x, y, centers, scale=20.0, gamma=0.1, margin=0.01, regularizer_weight=0.2, pooling="soft", init=None, **_
):
    def pool(values):
        return soft(values, gamma) if pooling == "soft" else gamma * log_sum_exp([v / gamma for v in values])

    scores = [[pool(group) for group in row] for row in cosines(x, centers)]
    return classify(scores, y, scale, lambda s: s - margin) + regularizer_weight * center_spread(centers)


def hardtriple(x, y, centers, scale=20.0, margin=0.01, regularizer_weight=0.0, **_):
    scores = [[max(group) for group in row] for row in cosines(x, centers)]
    return classify(scores, y, scale, lambda s: s - margin) + regularizer_weight * center_spread(centers)


def c_contrastive(x, y, centers, margin=1.0):
    rows = zip(squared_distances(x, centers), y, strict=True)
    return mean(sum(d if j == c else max(0.0, margin - d) for j, d in enumerate(row)) for row, c in rows)


def c_triplet(x, y, centers, margin=0.8, hardest_only=False):
    rows = []
    for row, label in zip(squared_distances(x, centers), y, strict=True):
        hinges = [max(0.0, margin + row[label] - d) for j, d in enumerate(row) if j != label]
        rows.append(max(hinges, default=0.0) if hardest_only else sum(hinges))
    return mean(rows)


def affinity(x, y, centers, margin=0.75, sigma=10.0, centers_per_class=1, regularizer_weight=1.0):
    rows = []
    for a, label in zip(x, y, strict=True):
        near = [max(math.exp(-(distance(a, c) ** 2) / sigma) for c in group) for group in centers]
        rows.append(sum(max(0.0, margin + s - near[label]) for j, s in enumerate(near) if j != label))
    points = [c for group in centers for c in group]
    gaps = [distance(points[i], points[j]) ** 2 for i in range(len(points)) for j in range(i)]
    return mean(rows) + regularizer_weight * mean((gap - mean(gaps)) ** 2 for gap in gaps)


def proxy_anchor(x, y, centers, margin=0.1, scale=32.0):
    scores, pulls, pushes = first_center(x, centers), [], []
    for j in range(len(centers)):
        own = [-scale * (row[j] - margin) for row, c in zip(scores, y, strict=True) if c == j]
        others = [scale * (row[j] + margin) for row, c in zip(scores, y, strict=True) if c != j]
        pulls += [log_one_plus_sum_exp(own)] if own else []
        pushes.append(log_one_plus_sum_exp(others))
    return mean(pulls) + mean(pushes)
