"""Every loss once more, in plain loops over Python floats: slow, obvious, and sharing no code with the package.

Each function takes embeddings ``x`` (N lists of D numbers), labels ``y``, ``centers`` (C lists of K lists of D; None
for losses without) and the options of the loss.
"""

import math


def dot(a, b):
    return sum(p * q for p, q in zip(a, b, strict=True))


def unit(a):
    length = max(math.sqrt(dot(a, a)), 1e-12)
    return [p / length for p in a]


def distance(a, b):
    return math.sqrt(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)))


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values) if values else 0.0


def log_sum_exp(values):
    top = max(values)
    return top + math.log(math.fsum(math.exp(v - top) for v in values))


def log_one_plus_sum_exp(values):
    return log_sum_exp([0.0, *values])


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


def norm_softmax(x, y, centers, scale=20.0, learn_scale=False):
    return classify(first_center(x, centers), y, scale)


def am_softmax(x, y, centers, margin=0.35, scale=30.0):
    return classify(first_center(x, centers), y, scale, lambda c: c - margin)


def arcface(x, y, centers, margin=0.5, scale=64.0, overflow="insightface", straight_through=False):
    def target(c):
        theta = math.acos(max(-1.0, min(1.0, c)))
        if overflow == "easy":
            return math.cos(theta + margin) if c > 0 else c
        if theta <= math.pi - margin or overflow == "none":
            return math.cos(theta + margin)
        return c - margin * math.sin(margin) if overflow == "insightface" else -2 - math.cos(theta + margin)

    return classify(first_center(x, centers), y, scale, target)


def squared_distances(x, centers):
    return [[distance(unit(a), unit(group[0])) ** 2 for group in centers] for a in x]


def proxy_nca(x, y, centers, scale=9.0):
    rows = []
    for row, label in zip(squared_distances(x, centers), y, strict=True):
        others = [-scale * d for j, d in enumerate(row) if j != label]
        rows.append(scale * row[label] + log_sum_exp(others))
    return mean(rows)


def proxy_nca_pp(x, y, centers, temperature=1 / 9):
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


def contrastive(x, y, centers=None, margin=1.0, form="hadsell"):
    same, other = [], []
    for i in range(len(x)):
        for j in range(i):
            d = distance(unit(x[i]), unit(x[j]))
            (same if y[i] == y[j] else other).append(d if y[i] == y[j] else max(0.0, margin - d))
    if form == "linear":
        return mean(d for d in same if d > 0) + mean(d for d in other if d > 0)
    return mean(d**2 / 2 for d in same + other)


def distance_table(x, squared, normalize):
    x = [unit(a) for a in x] if normalize else x
    return [[distance(a, b) ** (2 if squared else 1) for b in x] for a in x]


def partners(y, i):
    positives = [j for j in range(len(y)) if j != i and y[j] == y[i]]
    return positives, [j for j in range(len(y)) if y[j] != y[i]]


def triplet_batch_hard(x, y, centers=None, margin=None, squared=False, normalize=False):
    table, rows = distance_table(x, squared, normalize), []
    for i in range(len(x)):
        positives, negatives = partners(y, i)
        if positives and negatives:
            violation = max(table[i][p] for p in positives) - min(table[i][n] for n in negatives)
            rows.append(log_one_plus_sum_exp([violation]) if margin is None else max(0.0, violation + margin))
    return mean(rows)


def triplet_semihard(x, y, centers=None, margin=0.2, squared=True, pick="strict"):
    table, rows = distance_table(x, squared, True), []
    for i in range(len(x)):
        positives, negatives = partners(y, i)
        to_negatives = [table[i][n] for n in negatives]
        for p in positives:
            own = table[i][p]
            beyond = [d for d in to_negatives if d > own]
            semihard = [d for d in beyond if d <= own + margin]
            if pick == "tf" and to_negatives:
                chosen = [min(beyond) if beyond else max(to_negatives)]
            elif pick == "strict" and semihard:
                chosen = [min(semihard)]
            else:
                chosen = semihard if pick == "all" else []
            rows += [max(0.0, own - d + margin) for d in chosen]
    return mean(rows)


def multi_similarity(x, y, centers=None, alpha=2.0, beta=50.0, base=0.5, mining_epsilon=0.1):
    x, rows = [unit(a) for a in x], []
    for i in range(len(x)):
        positives, negatives = ([dot(x[i], x[j]) for j in group] for group in partners(y, i))
        if mining_epsilon is not None:
            kept = [s for s in positives if negatives and s < max(negatives) + mining_epsilon]
            negatives = [s for s in negatives if positives and s > min(positives) - mining_epsilon]
            positives = kept
        pull = log_one_plus_sum_exp([-alpha * (s - base) for s in positives]) / alpha
        push = log_one_plus_sum_exp([beta * (s - base) for s in negatives]) / beta
        rows.append(pull + push)
    return mean(rows)
