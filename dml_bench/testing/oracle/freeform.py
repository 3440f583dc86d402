"""The proxy loss from parts, in plain loops over Python floats."""

import math

from dml_bench.testing.oracle.margins import arc
from dml_bench.testing.oracle.plain import distance, dot, log_sum_exp, mean, unit
from dml_bench.testing.oracle.proxies import center_spread, soft
from dml_bench.testing.oracle.scores import cross_entropy
from dml_bench.testing.oracle.softmax import hsic, uniform_loss


def gaussian(a, c, sigma=10.0):
    return math.exp(-(distance(a, c) ** 2) / sigma)


SIMILARITIES = {
    "dot": dot,
    "cosine": lambda a, c: dot(unit(a), unit(c)),
    "class_cosine": lambda a, c: dot(a, unit(c)),
    "feature_cosine": lambda a, c: dot(unit(a), c),
    "negative_squared_distance": lambda a, c: -(distance(unit(a), unit(c)) ** 2),
    "gaussian": gaussian,
}

POOLINGS = {
    "single": lambda values: values[0],
    "nearest": max,
    "soft": soft,
    "logsumexp": lambda values, gamma: gamma * log_sum_exp([v / gamma for v in values]),
}


def part(choice):
    """Return the name of a part, and the value of its first option if there is one."""
    return (choice, []) if isinstance(choice, str) else (next(iter(choice)), list(choice.values()))


def scores(x, centers, similarity="cosine", pooling="single"):
    """Pool the similarities of each embedding to the centers of each class."""
    (like, width), (pool, gamma) = part(similarity), part(pooling)
    return [[POOLINGS[pool]([SIMILARITIES[like](a, c, *width) for c in g], *gamma) for g in centers] for a in x]


def own_score(score, label, margin, margins):
    name, value = part(margin)
    if name == "per_class":
        return score - margins[label]
    return {"none": lambda s: s, "additive": lambda s, m: s - m, "angular": arc}[name](score, *value)


def cost(logits, label, objective):
    name, value = part(objective)
    others = [z for j, z in enumerate(logits) if j != label]
    if name == "nca":
        return log_sum_exp(others) - logits[label]
    if name == "hinge":
        return sum(max(0.0, value[0] + z - logits[label]) for z in others)
    if name == "bootstrap":
        return log_sum_exp(logits) - value[0] * logits[label] - (1 - value[0]) * max(logits)
    return cross_entropy(logits, label)


def weigh(costs, choice, probabilities, y, class_counts):
    """Return the costs that one part of a weighting makes of those before it."""
    name, value = part(choice)
    if name == "focal":
        gamma = value[0] if value else 2.0
        return [(1 - p) ** gamma * c for p, c in zip(probabilities, costs, strict=True)]
    if name == "class_weights":
        inverse = [(1 - value[0]) / (1 - value[0] ** n) for n in class_counts]
        return [inverse[label] * len(inverse) / sum(inverse) * c for label, c in zip(y, costs, strict=True)]
    count = max(1, math.floor(value[0] * len(costs) + 1e-9))
    kept = sorted(range(len(costs)), key=lambda i: -costs[i])[:count]
    return [c * len(costs) / count if i in kept else 0.0 for i, c in enumerate(costs)]


def spread(choice, centers, margins):
    """Return one regularizer of one member."""
    name, (weight, *_) = part(choice)
    points = [c for group in centers for c in group]
    if name == "mean_margin":
        return -weight * mean(margins)
    if name == "merge_centers":
        return weight * center_spread(centers)
    if name == "uniform":
        return uniform_loss([], [], centers, weight)
    gaps = [distance(points[i], points[j]) ** 2 for i in range(len(points)) for j in range(i)]
    return weight * mean((gap - mean(gaps)) ** 2 for gap in gaps)


def several(choice):
    return [choice] if isinstance(choice, str | dict) else list(choice)


def head(x, y, centers, bias, margins, class_counts, options):
    """Return the mean cost of one member."""
    costs, probabilities = [], []
    table = scores(x, centers, options.get("similarity", "cosine"), options.get("centers", "single"))
    for row, label in zip(table, y, strict=True):
        own = own_score(row[label], label, options.get("margin", "none"), margins)
        t = part(options["negatives"])[1][0] if "negatives" in options else 1.0
        row = [t * s + t - 1 if s > own else s for s in row]
        row[label] = own
        logits = [options["scale"] * s + b for s, b in zip(row, bias or [0.0] * len(row), strict=True)]
        costs.append(cost(logits, label, options.get("objective", "softmax")))
        probabilities.append(math.exp(-cross_entropy(logits, label)))
    for choice in several(options.get("weighting", [])):
        costs = weigh(costs, choice, probabilities, y, class_counts)
    return mean(costs)


def proxy(x, y, centers, bias=None, margins=None, class_counts=None, scale=1.0, parts=None):
    """``parts``: the options as a recipe writes them, where ``centers`` is the pooling."""
    options = {**(parts or {}), "scale": scale}
    members = options.get("members", 1)
    heads = centers if members > 1 else [centers]
    total = sum(head(x, y, h, bias, margins, class_counts, options) for h in heads)
    total += sum(spread(choice, h, margins) for h in heads for choice in several(options.get("regularizer", [])))
    rows = [[c for group in h for c in group] for h in heads]
    pairs = [(v, u) for v in range(members) for u in range(v)]
    weight = part(options.get("ensemble", "sum"))[1]
    return total + sum(weight[0] * hsic(rows[v], rows[u]) for v, u in pairs if weight)
