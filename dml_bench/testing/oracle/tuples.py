"""More pair, triplet and ranking losses, in plain loops over Python floats."""

import math

from dml_bench.testing.oracle.plain import distance, dot, log_sum_exp, mean, unit


def log_one_plus_exp(value):
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


def sigmoid(value):
    small = math.exp(-abs(value))
    return 1 / (1 + small) if value >= 0 else small / (1 + small)


def cosines(x):
    x = [unit(a) for a in x]
    return [[dot(a, b) for b in x] for a in x]


def distances(x):
    x = [unit(a) for a in x]
    return [[distance(a, b) for b in x] for a in x]


def positives(y, i):
    return [j for j in range(len(y)) if j != i and y[j] == y[i]]


def negatives(y, i):
    return [j for j in range(len(y)) if y[j] != y[i]]


def all_triplets(y):
    return [(a, p, n) for a in range(len(y)) for p in positives(y, a) for n in negatives(y, a)]


def triplet_all(x, y, centers=None, margin=0.2, squared=True, reduction="nonzero"):
    d, power = distances(x), 2 if squared else 1
    costs = [max(0.0, d[a][p] ** power - d[a][n] ** power + margin) for a, p, n in all_triplets(y)]
    return mean(costs if reduction == "mean" else [cost for cost in costs if cost > 0])


def margin_loss(
    x, y, centers=None, margin=0.2, beta=1.2, learn_beta=False, beta_regularizer=0.0, sampling="all", triplets=None
):
    """``beta``: a number or one per class; ``triplets``: those that were drawn, all if None."""
    d, total, active, borders = distances(x), 0.0, 0, 0.0
    for a, p, n in all_triplets(y) if triplets is None else triplets:
        border = beta[y[a]] if isinstance(beta, list) else beta
        near, far = max(0.0, d[a][p] - border + margin), max(0.0, border - d[a][n] + margin)
        total, active, borders = total + near + far, active + (near > 0) + (far > 0), borders + border
    value = total / max(active, 1)
    if learn_beta:
        value += beta_regularizer * (borders / max(active, 1) if isinstance(beta, list) else beta)
    return value


def draw_probabilities(x, y, dim):
    """How likely each negative is for each anchor, by distance-weighted sampling."""
    table, rows = distances(x), []
    for a in range(len(x)):
        row = [0.0] * len(x)
        for n in negatives(y, a):
            d = max(table[a][n], 0.5)
            if d < 1.4:
                row[n] = 1 / (d ** (dim - 2) * (1 - d * d / 4) ** ((dim - 3) / 2))
        rows.append([w / (sum(row) or 1.0) for w in row])
    return rows


def circle(x, y, centers=None, margin=0.4, scale=80.0, scope="anchor", weights_at=None):
    """``weights_at``: the embeddings that the weights, which are constants, are computed from."""
    s, frozen = cosines(x), cosines(x if weights_at is None else weights_at)

    def cost(kept_positives, kept_negatives):
        if not kept_positives or not kept_negatives:
            return None
        pull = [-scale * max(0.0, 1 + margin - frozen[a][p]) * (s[a][p] - (1 - margin)) for a, p in kept_positives]
        push = [scale * max(0.0, frozen[a][n] + margin) * (s[a][n] - margin) for a, n in kept_negatives]
        return log_one_plus_exp(log_sum_exp(pull) + log_sum_exp(push))

    if scope == "batch":
        pairs = [(i, j) for i in range(len(x)) for j in range(i)]
        return cost([p for p in pairs if y[p[0]] == y[p[1]]], [p for p in pairs if y[p[0]] != y[p[1]]]) or 0.0
    rows = [cost([(a, p) for p in positives(y, a)], [(a, n) for n in negatives(y, a)]) for a in range(len(x))]
    return mean(row for row in rows if row is not None)


def supcon(x, y, centers=None, temperature=0.1):
    s, rows = cosines(x), []
    for a in range(len(x)):
        if positives(y, a):
            bottom = log_sum_exp([s[a][k] / temperature for k in range(len(x)) if k != a])
            rows.append(mean(bottom - s[a][p] / temperature for p in positives(y, a)))
    return mean(rows)


def npair(x, y, centers=None, regularizer_weight=0.0):
    pairs = []
    for label in set(y):
        members = [i for i in range(len(y)) if y[i] == label]
        if len(members) > 1:
            pairs.append((members[0], members[1]))
    rows = [log_sum_exp([dot(x[a], x[q]) for _, q in pairs]) - dot(x[a], x[p]) for a, p in pairs]
    return mean(rows) + regularizer_weight * mean(dot(x[i], x[i]) for pair in pairs for i in pair)


def smooth_rank(s, q, i, items, temperature):
    return 1 + sum(sigmoid((s[q][j] - s[q][i]) / temperature) for j in items if j != i)


def smooth_ap(x, y, centers=None, temperature=0.01, include_query=False):
    s, rows = cosines(x), []
    for q in range(len(x)):
        relevant = positives(y, q) + ([q] if include_query else [])
        items = [j for j in range(len(x)) if j != q or include_query]
        if positives(y, q):
            ratios = [
                smooth_rank(s, q, i, relevant, temperature) / smooth_rank(s, q, i, items, temperature) for i in relevant
            ]
            rows.append(1 - mean(ratios))
    return mean(rows)


def recall_at_k(
    x, y, centers=None, k=(1, 2, 4, 8, 16), rank_temperature=0.01, hit_temperature=1.0, include_query=False
):
    s, rows = cosines(x), []
    for q in range(len(x)):
        relevant = positives(y, q)
        items = [j for j in range(len(x)) if j != q or include_query]
        if relevant:
            ranks = [smooth_rank(s, q, i, items, rank_temperature) for i in relevant]
            recalls = [
                min(n, sum(sigmoid((n - rank) / hit_temperature) for rank in ranks)) / min(n, len(relevant)) for n in k
            ]
            rows.append(1 - mean(recalls))
    return mean(rows)


def expected_margin_loss(x, y, dim, margin, beta=1.2):
    """The mean of the margin loss over all draws, for a margin so large that no term is 0."""
    d, likely, costs = distances(x), draw_probabilities(x, y, dim), []
    for a, row in enumerate(likely):
        far = sum(p * (beta - d[a][n] + margin) for n, p in enumerate(row))
        costs += [(d[a][p] - beta + margin + far) / 2 for p in positives(y, a) if sum(row) > 0]
    return mean(costs)
