"""Softmax losses without a margin on the angle, in plain loops over Python floats."""

import math

from dml_bench.testing.oracle.plain import distance, dot, log_sum_exp, mean, unit
from dml_bench.testing.oracle.scores import classify, cross_entropy, entropies, first_center, linear


def norm_softmax(x, y, centers, scale=20.0, learn_scale=False, init=None):
    return classify(first_center(x, centers), y, scale)


def am_softmax(x, y, centers, margin=0.35, scale=30.0):
    return classify(first_center(x, centers), y, scale, lambda c: c - margin)


def softmax_ce(x, y, centers, bias=None):
    return mean(entropies(linear(x, centers, bias), y))


def w_softmax(x, y, centers):
    return mean(entropies(linear(x, [[unit(group[0])] for group in centers]), y))


def l2_softmax(x, y, centers, scale=None, learn_scale=False, bias=None):
    scale = scale or (16.0 if len(centers) <= 200 else 32.0)
    return mean(entropies(linear([[scale * v for v in unit(a)] for a in x], centers, bias), y))


def coco(x, y, centers=None, epsilon=1e-4, centroids="learned", num_classes=5):
    scale = 0.5 * math.log(((len(centers) if centers else num_classes) - 1) / (math.exp(epsilon) - 1))
    if centroids == "learned":
        return classify(first_center(x, centers), y, scale)
    groups = sorted(set(y))
    means = [
        [[mean(unit(a)[d] for a, c in zip(x, y, strict=True) if c == g) for d in range(len(x[0]))]] for g in groups
    ]
    return classify(first_center(x, means), [groups.index(c) for c in y], scale)


def ohem(x, y, centers, bias=None, keep_ratio=0.7, threshold=None):
    rows = sorted(entropies(linear(x, centers, bias), y), reverse=True)
    kept = max(1, math.floor(keep_ratio * len(rows) + 1e-9))
    return mean(r for i, r in enumerate(rows) if i < kept or (threshold is not None and math.exp(-r) < threshold))


def focal(x, y, centers, bias=None, gamma=2.0, alpha=None):
    rows = []
    for row, label in zip(entropies(linear(x, centers, bias), y), y, strict=True):
        weight = alpha[label] if isinstance(alpha, list) else 1.0 if alpha is None else alpha
        rows.append(weight * (1 - math.exp(-row)) ** gamma * row)
    return mean(rows)


def class_balanced(x, y, centers, class_counts, bias=None, beta=0.999, base="softmax"):
    weights = [(1 - beta) / (1 - beta**n) for n in class_counts]
    weights = [w * len(weights) / sum(weights) for w in weights]
    rows = []
    for logits, label in zip(linear(x, centers, bias), y, strict=True):
        if base == "softmax":
            rows.append(weights[label] * cross_entropy(logits, label))
            continue
        right = [1 / (1 + math.exp(-z if j == label else z)) for j, z in enumerate(logits)]
        rows.append(weights[label] * sum((1 - q) ** (2 if base == "focal" else 0) * -math.log(q) for q in right))
    return mean(rows)


def center_dispersed(x, y, centers=None, weight=1.0):
    directions = []
    for label in sorted(set(y)):
        group = [unit(a) for a, c in zip(x, y, strict=True) if c == label]
        directions.append(unit([sum(column) for column in zip(*group, strict=True)]))
    count = len(directions)
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    return weight * sum(dot(directions[i], directions[j]) ** 2 for i, j in pairs) / count**2


def support_vectors(x, y, centers, t, scale, target):
    rows = []
    for row, label in zip(first_center(x, centers), y, strict=True):
        own = target(row[label])
        factors = [math.exp(scale * (t - 1) * (c + 1)) if c > own else 1.0 for c in row]
        others = [math.log(h) + scale * c for j, (h, c) in enumerate(zip(factors, row, strict=True)) if j != label]
        rows.append(log_sum_exp([scale * own, *others]) - scale * own)
    return mean(rows)


def sv_softmax(x, y, centers, t=1.2, scale=30.0):
    return support_vectors(x, y, centers, t, scale, lambda c: c)


def sv_am_softmax(x, y, centers, t=1.2, scale=30.0, margin=0.35):
    return support_vectors(x, y, centers, t, scale, lambda c: c - margin)


def uniform_loss(x, y, centers, weight=1.0, normalize=True):
    points = [unit(c) if normalize else c for group in centers for c in group]
    count = len(points)
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    return weight * mean(1 / (distance(points[i], points[j]) + 1) for i, j in pairs)


def sm_softmax(x, y, centers, margin=0.5, bias=None):
    logits = linear(x, centers, bias)
    return mean(
        cross_entropy([z - margin * (j == c) for j, z in enumerate(row)], c) for row, c in zip(logits, y, strict=True)
    )


def hsic(first, second):
    """Return tr(K H L H) / (C - 1)^2 with the matrices written out."""
    count = len(first)
    kernels = [[[dot(a, b) for b in rows] for a in rows] for rows in (first, second)]
    center = [[(i == j) - 1 / count for j in range(count)] for i in range(count)]
    product = center
    for kernel in (kernels[0], center, kernels[1]):
        columns = list(zip(*kernel, strict=True))
        product = [[dot(row, column) for column in columns] for row in product]
    return sum(product[i][i] for i in range(count)) / (count - 1) ** 2


def em_softmax(x, y, centers, members=2, margin=0.5, diversity_weight=0.1):
    heads = centers if members > 1 else [centers]
    total = sum(sm_softmax(x, y, head, margin) for head in heads)
    rows = [[c for group in head for c in group] for head in heads]
    pairs = [(v, u) for v in range(members) for u in range(v)]
    return total + diversity_weight * sum(hsic(rows[v], rows[u]) for v, u in pairs)
