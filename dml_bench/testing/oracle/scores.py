"""Scores of embeddings ``x`` against ``centers`` (C lists of K lists of D), and softmax costs, in plain loops."""

from dml_bench.testing.oracle.plain import distance, dot, log_sum_exp, mean, unit


def cross_entropy(logits, label):
    return log_sum_exp(logits) - logits[label]


def cosines(x, centers):
    return [[[dot(unit(a), unit(c)) for c in group] for group in centers] for a in x]


def classify(scores, y, scale, target=lambda s: s):
    """Mean cross-entropy of scaled scores, the one of the own class replaced by ``target`` of it."""
    rows = []
    for row, label in zip(scores, y, strict=True):
        logits = [scale * (target(s) if j == label else s) for j, s in enumerate(row)]
        rows.append(cross_entropy(logits, label))
    return mean(rows)


def first_center(x, centers):
    return [[group[0] for group in row] for row in cosines(x, centers)]


def squared_distances(x, centers):
    return [[distance(unit(a), unit(group[0])) ** 2 for group in centers] for a in x]


def linear(x, centers, bias=None):
    offsets = bias if isinstance(bias, list) else [0.0] * len(centers)
    return [[dot(a, group[0]) + b for group, b in zip(centers, offsets, strict=True)] for a in x]


def entropies(logits, y):
    return [cross_entropy(row, label) for row, label in zip(logits, y, strict=True)]
