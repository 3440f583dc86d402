from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from dml_bench.reports.plots import maps
from dml_bench.reports.plots.canvas import rendered
from dml_bench.reports.plots.maps import embedding_map, pca, sample, tsne
from dml_bench.reports.style import looks
from dml_bench.reports.summary import sections


def figure_of(*runs):
    (section,) = sections(runs)
    return embedding_map(section, looks([section]))


def groups(classes: int, each: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(classes), each)
    return 5 * rng.normal(size=(classes, 6))[labels] + rng.normal(size=(len(labels), 6)), labels


def first_lines(figure) -> list[str]:
    """Panel by panel, the map by PCA before that by t-SNE."""
    titles = [axes.get_title(loc="left").split("\n")[0] for axes in figure.axes]
    return [
        title for pair in zip(titles[: len(titles) // 2], titles[len(titles) // 2 :], strict=True) for title in pair
    ]


def drawn(axes) -> int:
    return sum(len(part.get_offsets()) for part in axes.collections)


@pytest.mark.parametrize("shape", [(50, 7), (7, 50), (600, 530), (3, 2), (4, 1), (2, 1)])
def test_pca_is_that_of_a_singular_value_decomposition(shape):
    points = np.random.default_rng(0).normal(size=shape) * np.linspace(1, 4, shape[1])
    plane, share = pca(points)
    left, sizes, _ = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    expected = (left * sizes)[:, :2]
    assert np.allclose(np.abs(plane[:, : expected.shape[1]]), np.abs(expected), atol=1e-6)
    assert share == pytest.approx((sizes[:2] ** 2).sum() / (sizes**2).sum())
    assert all(column[np.abs(column).argmax()] >= 0 for column in plane.T)


def test_items_in_one_place_have_a_map():
    plane, share = pca(np.ones((5, 3)))
    assert (plane == 0).all() and share == 1
    assert np.isfinite(tsne(np.ones((5, 3)), plane)).all()


@pytest.mark.parametrize("count", [3, 4, 5, 100])
def test_tsne_is_the_same_every_time_and_on_any_number_of_threads(count):
    points = groups(3, 40)[0][:count]
    first = tsne(points, pca(points)[0])
    with threadpool_limits(2):
        assert (tsne(points, pca(points)[0]) == first).all()
    assert first.shape == (count, 2) and np.isfinite(first).all()


def test_tsne_keeps_far_groups_together():
    points, labels = groups(4, 20)
    found = tsne(10 * points, pca(points)[0])
    apart = np.linalg.norm(found[:, None] - found, axis=2) + np.diag(np.full(len(found), np.inf))
    assert (labels[apart.argmin(axis=1)] == labels).all()


@pytest.mark.parametrize(("size", "classes"), [(10, 3), (1500, 3), (9000, 3), (9000, 30), (1600, 30)])
def test_a_sample_is_small_and_half_of_the_classes_shown(size, classes):
    labels = np.arange(size) % classes
    rows = sample(labels, [0, 1, 2])
    assert len(rows) == len(set(rows)) == min(size, maps.POINTS)
    inside, total = (labels[rows] < 3).sum(), (labels < 3).sum()
    assert inside == (min(total, 1500) if classes == 3 else min(total, 750))


def test_the_best_row_norm_softmax_and_a_reference_are_shown(stored):
    levels = {"softtriple": 0.9, "arcface": 0.8, "norm_softmax": 0.7, "raw_pixels": 0.3, "untrained": 0.2}
    runs = [stored(*groups(3, 5), loss, metrics={"recall@1": level}) for loss, level in levels.items()]
    figure = figure_of(*runs)
    assert first_lines(figure) == ["softtriple", "t-SNE", "norm_softmax", "t-SNE", "raw_pixels", "t-SNE"]
    assert all(drawn(axes) == 15 for axes in figure.axes)
    without = figure_of(runs[0], runs[1], runs[4])
    assert [axes.get_title(loc="left").split("\n")[0] for axes in without.axes[:3]] == [
        "softtriple",
        "arcface",
        "untrained",
    ]


def test_ten_classes_between_the_worst_and_the_best_are_told_apart_by_colour_and_marker(stored):
    vectors, labels = groups(40, 4)
    rank = np.where(labels % 4 == 0, 1, 2)  # in one class of four each query finds its own
    rank[labels == 5] = [1, 2, 2, 2]
    per_query = {"query": np.arange(len(labels)), "label": labels, "first_hit_rank": rank}
    figure = figure_of(stored(vectors, labels, per_query=per_query))
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert len(names) == 11 and names[-1] == "others"
    assert {"1", "36"} <= set(names)  # the first of the worst, and the last of the best
    looks_of = {(handle.get_marker(), handle.get_color()) for handle in legend.legend_handles}
    assert len(looks_of) == 11 and len({marker for marker, _ in looks_of}) == 11
    assert all(drawn(axes) == len(labels) for axes in figure.axes)


def test_too_few_items_and_runs_without_embeddings_have_no_map(stored, make):
    assert figure_of(make()) is None
    assert figure_of(stored(np.eye(2), [0, 1])) is None
    assert len(figure_of(stored(np.eye(3), [0, 0, 0], seed=1)).axes) == 2


def test_the_same_bytes_every_time_and_nothing_that_passes_for_a_fact(stored):
    runs = [stored(*groups(12, 3), loss) for loss in ("softtriple", "raw_pixels")]
    first = rendered(lambda: figure_of(*runs))
    assert rendered(lambda: figure_of(*runs)) == first
    text = first["svg"].decode()
    assert "mean nothing" in text and "of the variance" in text and "10 of 12 classes" in text
