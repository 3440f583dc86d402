"""The rivals of each class, in plain loops over Python floats."""

from dml_bench.testing.oracle.plain import dot, unit


def similar(centers):
    """Return the cosine of each pair of classes."""
    return [[dot(unit(a[0]), unit(b[0])) for b in centers] for a in centers]


def nearest(centers, size):
    """Return the classes most similar to each."""
    table = similar(centers)
    orders = [sorted((j for j in range(len(row)) if j != c), key=lambda j: -row[j]) for c, row in enumerate(table)]
    return [order[:size] for order in orders]


def first_of(size, *lists):
    """Return the first ``size`` different entries of some lists in a row."""
    return list(dict.fromkeys(entry for entries in lists for entry in entries))[:size]


def joined(held, x, y, centers):
    """Put the classes that beat a class in the batch before its rivals, those that win by most first."""
    raced, result = {*y, *(rival for label in y for rival in held[label])}, list(held)
    for owner in set(y):
        leads = {}
        for a in (a for a, label in zip(x, y, strict=True) if label == owner):
            row = [dot(unit(a), unit(group[0])) for group in centers]
            for j in raced - {owner}:
                leads[j] = max(leads.get(j, -2.0), row[j] - row[owner])
        winners = sorted((j for j in leads if leads[j] > 0), key=lambda j: -leads[j])
        result[owner] = first_of(len(held[owner]), winners, held[owner])
    return result


def refreshed(held, centers):
    """Drop rivals more than a right angle away, and fill up with the most similar classes."""
    table = similar(centers)
    all_near = nearest(centers, len(centers))
    return [
        first_of(len(row), [j for j in row if table[c][j] >= 0], all_near[c][: len(row)]) for c, row in enumerate(held)
    ]
