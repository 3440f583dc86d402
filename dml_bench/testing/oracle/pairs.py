"""Pair and triplet losses of whole batches, in plain loops over Python floats."""

from dml_bench.testing.oracle.plain import distance, dot, log_one_plus_sum_exp, mean, unit


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
