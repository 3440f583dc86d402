"""What the plain loops share: vectors as lists of Python floats."""

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
