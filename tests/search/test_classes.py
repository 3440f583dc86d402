"""Distances between classes against sums over all pairs of their members."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from dml_bench.search import classes
from dml_bench.search.classes import class_means, nearest_classes, single_linkage, spreads


@pytest.fixture
def points():
    torch.manual_seed(0)
    labels = torch.tensor([0] * 5 + [1] * 3 + [2] + [4] * 4 + [5] * 2 + [6] * 2)
    middles = torch.randn(7, 4, dtype=torch.float64)
    return F.normalize(middles[labels] + 0.5 * torch.randn(len(labels), 4, dtype=torch.float64)), labels


def between(points, labels, p, q):
    pairs = [(a, b) for a in points[labels == p] for b in points[labels == q] if a is not b]
    return torch.stack([(a - b).square().sum() for a, b in pairs]).mean()


def test_means_give_the_mean_squared_distance_between_classes(points):
    means, counts = class_means(*points, 7)
    assert counts.tolist() == [5, 3, 1, 0, 4, 2, 2]
    assert means[3].tolist() == [0.0] * 4
    for p in (0, 1, 2, 4):
        for q in (1, 2, 5):
            if p != q:
                torch.testing.assert_close(2 - 2 * means[p] @ means[q], between(*points, p, q))


def test_spread_leaves_out_pairs_of_a_member_with_itself(points):
    found = spreads(*class_means(*points, 7))
    for c in (0, 1, 4, 5, 6):
        rows = points[0][points[1] == c]
        n = len(rows)
        expected = torch.cdist(rows, rows).square().sum() / (n * n - n)
        torch.testing.assert_close(found[c], expected)
    assert found[2] == found[3] == 0


@pytest.mark.parametrize("block", [1, 1 << 24])
def test_nearest_classes_are_those_of_the_full_table(points, block, monkeypatch):
    monkeypatch.setattr(classes, "BLOCK", block)
    means = class_means(*points, 7)[0]
    means[3] = torch.tensor([0.1, 0.2, 0.3, 0.4])  # a class without members is as far from every other
    table = 2 - 2 * means @ means.T
    table.fill_diagonal_(torch.inf)
    assert torch.equal(nearest_classes(means, 3), table.argsort(dim=1)[:, :3])
    assert nearest_classes(means, 99).shape == (7, 6)


def test_cutting_the_line_leaves_what_short_steps_connect(points):
    means = class_means(*points, 7)[0]
    line, gaps = single_linkage(means)
    assert sorted(line.tolist()) == list(range(7))
    table = 2 - 2 * means @ means.T
    rising = [0.0, *gaps[1:].sort().values.tolist(), 5.0]
    for threshold in [(low + high) / 2 for low, high in pairwise(rising)]:
        reach = (table < threshold) | torch.eye(7, dtype=torch.bool)
        for _ in range(3):
            reach = (reach.double() @ reach.double()) > 0
        group = torch.empty(7, dtype=torch.int64)
        group[line] = (gaps >= threshold).cumsum(0)
        assert torch.equal(group[:, None] == group, reach)


def test_one_class_is_a_line_of_one():
    line, gaps = single_linkage(torch.ones(1, 3))
    assert line.tolist() == [0]
    assert gaps.tolist() == [float("inf")]
    assert nearest_classes(torch.ones(1, 3), 2).shape == (1, 0)
