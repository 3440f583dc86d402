"""Losses whose parts change while training, in plain loops over Python floats.

What a loss has learned comes under the name of its buffer or parameter.
"""

import math

from dml_bench.testing.oracle.margins import arc
from dml_bench.testing.oracle.plain import dot, log_sum_exp, unit


def gap_of(a, b):
    return sum((p - q) ** 2 for p, q in zip(a, b, strict=True))


def adaptiveface(x, y, centers, margins, scale=30.0, margin_weight=20.0, angular=False, queues=None, **_):
    """``queues``: rivals of each class; all classes take part in the softmax if None."""
    classes = None if queues is None else {*y, *(rival for label in y for rival in queues[label])}
    margins = [min(max(m, 0.0), 1.0) for m in margins]
    rows = []
    for a, label in zip(x, y, strict=True):
        logits = {j: dot(unit(a), unit(c[0])) for j, c in enumerate(centers) if classes is None or j in classes}
        own = logits[label]
        logits[label] = math.cos(math.acos(own) + margins[label]) if angular else own - margins[label]
        rows.append(log_sum_exp([scale * v for v in logits.values()]) - scale * logits[label])
    return math.fsum(rows) / len(rows) - margin_weight * math.fsum(margins) / len(margins)


def nra_two_stage(
    x, y, centers, from_epoch=11, beta=0.9, margin=0.5, scale=64.0, overflow="insightface", stage=None, **_
):
    """``stage`` 1 or 2; by default that of the first epoch."""
    stage = stage or (2 if from_epoch == 1 else 1)
    rows = []
    for a, label in zip(x, y, strict=True):
        logits = [dot(unit(a), unit(c[0])) for c in centers]
        logits[label] = arc(logits[label], margin, overflow)
        logits = [scale * v for v in logits]
        trust = 1.0 if stage == 1 else beta
        rows.append(log_sum_exp(logits) - trust * logits[label] - (1 - trust) * max(logits))
    return math.fsum(rows) / len(rows)


def psi(theta, m):
    k = math.floor(m * theta / math.pi)
    return (-1) ** k * math.cos(m * theta) - 2 * k


def uncertainty_softmax(x, y, centers, class_margins, penalties=None, penalty_weight=0.5, **_):
    rows = []
    penalties = penalties or [0.0] * len(y)
    centers = [group[0] for group in centers]
    for a, label, penalty in zip(x, y, penalties, strict=True):
        logits = [dot(a, c) for c in centers]
        length = math.sqrt(dot(a, a) * dot(centers[label], centers[label]))
        theta = math.acos(max(-1.0, min(1.0, logits[label] / length)))
        logits[label] = length * (psi(theta, class_margins[label]) - penalty_weight * penalty)
        rows.append(log_sum_exp(logits) - logits[label])
    return math.fsum(rows) / len(rows)


def class_margins(passes, y, num_classes, margin_max, noise=0.0):
    """``passes``: T lists of n lists of D numbers."""
    unsure = []
    for c in range(num_classes):
        traces = []
        for i in range(len(y)):
            if y[i] == c:
                columns = list(zip(*(p[i] for p in passes), strict=True))
                means = [math.fsum(v) / len(v) for v in columns]
                spread = [math.fsum((e - m) ** 2 for e in v) / len(v) for v, m in zip(columns, means, strict=True)]
                traces.append(math.fsum(spread) / len(spread) + noise)
        unsure.append(math.fsum(traces) / len(traces) if traces else 0.0)
    top = max(unsure)
    return [1 + (margin_max - 1) * u / top if top else 1.0 for u in unsure]


def penalties(passes, y, centers, competitor, noise=0.0):
    result = []
    for i, label in enumerate(y):
        steps = [[dot(p[i], c) for c in centers] for p in passes]
        if competitor == "count":
            wrong = sum(max(v for j, v in enumerate(s) if j != label) > s[label] for s in steps)
            result.append(wrong / len(steps))
            continue
        errors = {}
        for j, center in enumerate(centers):
            if j != label:
                gaps = [s[j] - s[label] for s in steps]
                mean = math.fsum(gaps) / len(gaps)
                variance = math.fsum((g - mean) ** 2 for g in gaps) / len(gaps) + noise * gap_of(center, centers[label])
                errors[j] = mean, 0.5 * math.erfc(-mean / math.sqrt(2 * variance))
        hardest = max(errors.values())[1]
        result.append(hardest if competitor == "hardest" else min(1.0, math.fsum(e for _, e in errors.values())))
    return result


def htl(x, y, joins=None, spreads=None, margin=0.1, squared=False, nodes=None, thresholds=None, **_):
    """``joins``: (C, C) thresholds at which classes meet, or ``nodes`` and ``thresholds`` of a tree; none: all 0."""
    if joins is None and nodes is not None:
        levels, classes = list(zip(thresholds, nodes, strict=True)), range(len(nodes[0]))
        joins = [[next(t for t, n in levels if n[p] == n[q]) for q in classes] for p in classes]
    x, rows = [unit(a) for a in x], []
    for a in range(len(x)):
        for p in range(len(x)):
            for n in range(len(x)):
                if p != a and y[p] == y[a] and y[n] != y[a]:
                    gap = margin + (joins[y[a]][y[n]] - spreads[y[a]] if joins else 0.0)
                    near, far = (math.sqrt(gap_of(x[a], x[b])) ** (2 if squared else 1) for b in (p, n))
                    rows.append(max(0.0, near - far + gap) / 2)
    return math.fsum(rows) / len(rows) if rows else 0.0


def class_distances(x, y, num_classes):
    """Mean squared distances between members: within a class without the pairs of a member with itself."""
    x = [unit(a) for a in x]
    table = [[0.0] * num_classes for _ in range(num_classes)]
    for p in range(num_classes):
        for q in range(num_classes):
            pairs = [(i, j) for i in range(len(x)) for j in range(len(x)) if y[i] == p and y[j] == q and i != j]
            table[p][q] = math.fsum(gap_of(x[i], x[j]) for i, j in pairs) / len(pairs) if pairs else 0.0
    return table


def class_tree(x, y, num_classes, levels):
    """The threshold at which each pair of classes first shares a node, and the spread of each class."""
    table = class_distances(x, y, num_classes)
    spreads = [table[c][c] for c in range(num_classes)]
    several = [spreads[c] for c in range(num_classes) if list(y).count(c) > 1]
    lowest = math.fsum(several) / len(several)
    joins = [[None] * num_classes for _ in range(num_classes)]
    for level in range(levels + 1):
        threshold = lowest + level * (4 - lowest) / levels
        for start in range(num_classes):  # walk along short steps
            reached, todo = {start}, [start]
            while todo:
                here = todo.pop()
                for there in range(num_classes):
                    if there not in reached and table[here][there] < threshold:
                        reached.add(there)
                        todo.append(there)
            for end in reached:
                joins[start][end] = threshold if joins[start][end] is None else joins[start][end]
    return joins, spreads


def quintuplet_of(points, tuples, margins):
    rows = []
    for anchor, *others in tuples:
        gaps = [None if o < 0 else gap_of(points[anchor], points[o]) for o in others]
        for near, far, margin in zip(gaps, gaps[1:], margins, strict=False):
            rows.append(0.0 if near is None or far is None else max(0.0, margin + near - far))
    return math.fsum(rows) / max(len(tuples), 1)


def quintuplet(x, y, clusters=None, margins=(0.1, 0.1, 0.1), **_):
    clusters = clusters or [0] * len(y)
    x, tuples = [unit(a) for a in x], []
    for a in range(len(x)):
        own = [(gap_of(x[a], x[i]), i) for i in range(len(x)) if i != a and y[i] == y[a]]
        rest = [(gap_of(x[a], x[i]), i) for i in range(len(x)) if y[i] != y[a]]
        if own and rest:
            near = [(d, i) for d, i in own if clusters[i] == clusters[a]]
            far = [(d, i) for d, i in own if clusters[i] != clusters[a]]
            tuples.append(
                [
                    a,
                    max(near)[1] if near else -1,
                    min(far)[1] if far else -1,
                    max(own)[1],
                    min(rest)[1],
                ]
            )
    return quintuplet_of(x, tuples, margins)


def certainty(x, centers, scale):
    """The largest softmax probability of each sample, without margin."""
    tables = [[scale * dot(unit(a), unit(group[0])) for group in centers] for a in x]
    return [math.exp(max(row) - log_sum_exp(row)) for row in tables]
