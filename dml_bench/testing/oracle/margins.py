"""Losses with a margin on the angle, in plain loops over Python floats."""

import math

from dml_bench.testing.oracle.plain import dot, mean, unit
from dml_bench.testing.oracle.scores import classify, cosines, cross_entropy, first_center
from dml_bench.testing.oracle.softmax import center_dispersed, support_vectors, uniform_loss


def arcface(x, y, centers, margin=0.5, scale=64.0, overflow="insightface", straight_through=False):
    return classify(first_center(x, centers), y, scale, lambda c: arc(c, margin, overflow))


def arc(c, margin, overflow="insightface"):
    theta = math.acos(max(-1.0, min(1.0, c)))
    if overflow == "easy":
        return math.cos(theta + margin) if c > 0 else c
    if theta <= math.pi - margin or overflow == "none":
        return math.cos(theta + margin)
    return c - margin * math.sin(margin) if overflow == "insightface" else -2 - math.cos(theta + margin)


def nra(x, y, centers, beta=0.9, margin=0.5, scale=64.0, overflow="insightface"):
    rows = []
    for row, label in zip(first_center(x, centers), y, strict=True):
        logits = [scale * (arc(c, margin, overflow) if j == label else c) for j, c in enumerate(row)]
        guess = max(range(len(logits)), key=logits.__getitem__)
        rows.append(beta * cross_entropy(logits, label) + (1 - beta) * cross_entropy(logits, guess))
    return mean(rows)


def unequal_training(x, y, centers, class_counts, weight=1.0, **options):
    frequent = [n >= sum(class_counts) / len(class_counts) for n in class_counts]
    parts = []
    for chosen in (True, False):
        kept = [(a, c) for a, c in zip(x, y, strict=True) if frequent[c] is chosen]
        parts.append(([a for a, _ in kept], [c for _, c in kept]))
    head = nra(*parts[0], centers, **options) if parts[0][1] else 0.0
    return head + (center_dispersed(*parts[1], weight=weight) if parts[1][1] else 0.0)


def sv_arc_softmax(x, y, centers, t=1.2, scale=30.0, margin=0.5):
    return support_vectors(x, y, centers, t, scale, lambda c: arc(c, margin))


def falling(angle):
    """Cosine that goes on falling beyond pi, from one half turn to the next."""
    k = 0
    while angle > (k + 1) * math.pi:
        k += 1
    return (-1) ** k * math.cos(angle) - 2 * k


def annealed(annealing, steps):
    if isinstance(annealing, int | float):
        return annealing
    schedule = {"base": 1000.0, "gamma": 0.12, "power": 1.0, "minimum": 5.0, **(annealing or {})}
    start = schedule["base"] * (1 + schedule["gamma"] * (steps + 1)) ** -schedule["power"]
    return max(schedule["minimum"], start)


def multiplied(x, y, centers, margin, mixed):
    """Costs of the large-margin softmax, whatever the lengths."""
    rows = []
    for a, label in zip(x, y, strict=True):
        logits = [dot(a, group[0]) for group in centers]
        length = math.sqrt(dot(a, a) * dot(centers[label][0], centers[label][0]))
        c = max(-1.0, min(1.0, dot(unit(a), unit(centers[label][0]))))
        logits[label] = length * (falling(margin * math.acos(c)) + mixed * c) / (1 + mixed)
        rows.append(cross_entropy(logits, label))
    return rows


def l_softmax(x, y, centers, margin=4, annealing=None, steps=0):
    return mean(multiplied(x, y, centers, margin, annealed(annealing, steps)))


def sphere(x, y, centers, margin, annealing, scale, steps):
    x = x if scale is None else [[scale * v for v in unit(a)] for a in x]
    return multiplied(x, y, [[unit(group[0])] for group in centers], margin, annealed(annealing, steps))


def a_softmax(x, y, centers, margin=4, annealing=None, scale=None, steps=0):
    return mean(sphere(x, y, centers, margin, annealing, scale, steps))


def af_softmax(x, y, centers, margin=4, annealing=None, scale=None, gamma=2.0, steps=0):
    rows = sphere(x, y, centers, margin, annealing, scale, steps)
    return mean((1 - math.exp(-row)) ** gamma * row for row in rows)


def uniformface(x, y, centers, margin=4, annealing=None, uniform_weight=1.0, normalize=True, steps=0):
    spread = uniform_loss(x, y, centers, uniform_weight, normalize)
    return a_softmax(x, y, centers, margin, annealing, steps=steps) + spread


def combined_margin(x, y, centers, m1=1.0, m2=0.3, m3=0.2, scale=64.0, overflow="none"):
    def target(c):
        angle = m1 * math.acos(max(-1.0, min(1.0, c))) + m2
        return (math.cos(angle) if overflow == "none" else falling(angle)) - m3

    return classify(first_center(x, centers), y, scale, target)


def subcenter_arcface(x, y, centers, centers_per_class=3, margin=0.5, scale=64.0, overflow="insightface"):
    scores = [[max(group) for group in row] for row in cosines(x, centers)]
    return classify(scores, y, scale, lambda c: arc(c, margin, overflow))
