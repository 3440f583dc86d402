from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dml_bench.reports.plots.ranks import critical_difference, groups
from dml_bench.reports.style import looks
from dml_bench.reports.summary import sections


def test_names_stand_with_their_mean_ranks(make):
    scores = {"arcface": (0.9, 0.8, 0.7), "coco": (0.8, 0.9, 0.6), "supcon": (0.1, 0.2, 0.3)}
    runs = [
        make(loss, dataset=d, metrics={"recall@1": v[i]}) for loss, v in scores.items() for i, d in enumerate("abc")
    ]
    found = sections(runs)
    figure = critical_difference(found, looks(found))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {"arcface  1.33", "coco  1.67", "supcon  3.00"} <= set(texts)
    critical = 2.343 * (3 * 4 / (6 * 3)) ** 0.5  # Demsar 2006, table 5
    assert any(text.startswith(f"critical difference {critical:.2f}") for text in texts)


def test_it_needs_two_data_sets_and_three_losses(make):
    runs = [make(loss, dataset=d) for loss in ("arcface", "coco", "supcon") for d in "ab"]
    for some in (runs[::2], runs[:4]):
        assert critical_difference(sections(some), looks(sections(some))) is None


def test_a_loss_without_the_metric_somewhere_is_left_out(make):
    runs = [make(loss, dataset=d) for loss in ("arcface", "coco", "supcon", "ohem") for d in "ab"]
    runs[-1] = make("ohem", dataset="b", metrics={"nmi": 0.5})
    found = sections(runs)
    texts = [text.get_text() for text in critical_difference(found, looks(found)).axes[0].texts]
    assert sum("  2.00" in text for text in texts) == 3


@given(st.lists(st.floats(1, 20), min_size=2, max_size=12).map(sorted), st.floats(0.1, 8))
def test_a_bar_joins_two_ranks_exactly_if_they_are_not_told_apart(ranks, critical):
    bars = groups(ranks, critical)
    for i, low in enumerate(ranks):
        for high in ranks[i + 1 :]:
            joined = low == high or any(start <= low and high <= end for start, end in bars)
            assert joined == (high - low <= critical)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(bars))


def test_bars_of_known_ranks():
    assert groups([1.0, 2.0, 3.5, 6.0], 2.0) == [(1, 2), (2, 3.5)]
    assert groups([1.0, 4.0], 1.0) == []
