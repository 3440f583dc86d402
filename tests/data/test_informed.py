import numpy as np
import pytest
import torch

from dml_bench.data.informed import LearnsFromEpochs, LearnsFromSteps
from dml_bench.data.samplers import SAMPLERS
from dml_bench.epoch import EpochContext
from dml_bench.errors import DataError, OptionError


def labels_of(counts):
    return np.repeat(np.arange(len(counts)), counts).astype(np.int64)


def epoch(sampler, seed=0):
    return list(sampler.batches(np.random.default_rng(seed)))


def context(labels, embeddings):
    return EpochContext(1, torch.from_numpy(labels), lambda dropout: embeddings, torch.Generator())


@pytest.fixture
def adaptive():
    return SAMPLERS.build("adaptive", labels_of([5] * 8), batch_size=8)


def test_each_learns_from_what_it_says(adaptive):
    neighbors = SAMPLERS.build("class_neighbors", labels_of([5] * 16))
    plain = SAMPLERS.build("random", labels_of([5]))
    kinds = [(isinstance(s, LearnsFromEpochs), isinstance(s, LearnsFromSteps)) for s in (adaptive, neighbors, plain)]
    assert kinds == [(False, True), (True, False), (False, False)]


def test_adaptive_draws_different_images_by_weight(adaptive):
    adaptive.weights[:] = 1.0
    adaptive.weights[:4] = 6.0
    batches = [b for seed in range(400) for b in epoch(adaptive, seed)]
    assert all(len(set(b.tolist())) == 8 == len(b) and b.dtype == np.int64 for b in batches)
    assert len(epoch(adaptive)) == len(adaptive) == 5
    # the first image of a weighted draw without replacement is drawn in proportion to the weights
    single = SAMPLERS.build("adaptive", labels_of([10]), batch_size=1)
    single.weights[0] = 9.0
    rng = np.random.default_rng(0)
    drawn = np.concatenate([b for _ in range(200) for b in single.batches(rng)])
    assert (drawn == 0).mean() == pytest.approx(0.5, abs=0.04)


def test_adaptive_follows_what_was_right_wrong_and_noise(adaptive):
    adaptive.update(np.array([0, 1, 2, 3]), np.array([True, False, False, True]), np.array([0.9, 0.1, -0.6, -0.6]))
    assert adaptive.weights[:5].tolist() == pytest.approx([0.8, 1.25, 0.1, 0.1, 1.0])
    for _ in range(50):
        adaptive.update(np.array([0, 1]), np.array([True, False]), np.array([0.9, 0.1]))
    assert adaptive.weights[:2].tolist() == [0.05, 10.0]


def test_adaptive_goes_on_from_its_state(adaptive):
    adaptive.update(np.arange(4), np.zeros(4, dtype=bool), np.zeros(4))
    other = SAMPLERS.build("adaptive", labels_of([5] * 8), batch_size=8)
    before = epoch(other, 3)
    other.load_state_dict(adaptive.state_dict())
    adaptive.update(np.arange(4), np.zeros(4, dtype=bool), np.zeros(4))
    assert other.weights[:5].tolist() == [1.25] * 4 + [1.0]
    assert not all(np.array_equal(a, b) for a, b in zip(before, epoch(other, 3), strict=True))


def test_a_batch_is_never_larger_than_the_training_set():
    sampler = SAMPLERS.build("adaptive", labels_of([3, 2]), batch_size=64)
    assert [sorted(b.tolist()) for b in epoch(sampler)] == [[0, 1, 2, 3, 4]]
    assert sampler.coverage == "an epoch draws 5 images out of 5, hard ones more often"


@pytest.fixture
def ring():
    """Six classes on a ring, next to those with the next labels; images in random directions around them."""
    labels = labels_of([6] * 6)
    angles = torch.tensor(labels) * 2 * np.pi / 6
    return labels, 3 * torch.stack([angles.cos(), angles.sin()], dim=1) + 0.01 * torch.randn(36, 2)


def test_neighbors_come_with_their_anchor(ring):
    labels, embeddings = ring
    sampler = SAMPLERS.build("class_neighbors", labels, anchors=2, classes_per_anchor=3, images_per_class=2)
    sampler.on_epoch_start(context(labels, embeddings))
    assert {frozenset(row[:2]) for row in sampler.nearest.tolist()} == {
        frozenset(((c + 1) % 6, (c - 1) % 6)) for c in range(6)
    }
    batches = epoch(sampler)
    assert len(batches) == len(sampler) == 3
    for batch in batches:
        classes = labels[batch].reshape(6, 2)
        assert (classes[:, 0] == classes[:, 1]).all()
        assert sorted(classes[:, 0]) == list(range(6))
        anchor, *near = classes[:3, 0]
        assert {int(n) for n in near} == {(anchor + 1) % 6, (anchor - 1) % 6}
        assert len(set(batch.tolist())) == 12


def test_an_anchors_neighbor_that_is_taken_makes_room_for_the_next(ring):
    labels, embeddings = ring
    sampler = SAMPLERS.build("class_neighbors", labels, anchors=3, classes_per_anchor=2, images_per_class=8)
    sampler.on_epoch_start(context(labels, embeddings))
    for seed in range(20):
        for batch in epoch(sampler, seed):
            assert sorted(set(labels[batch].tolist())) == list(range(6))
            assert len(batch) == 48  # repeats fill up classes of six images


def test_neighbors_need_an_epoch_to_begin(ring):
    sampler = SAMPLERS.build("class_neighbors", ring[0], anchors=1, classes_per_anchor=2)
    with pytest.raises(RuntimeError, match="on_epoch_start"):
        epoch(sampler)


def test_labels_need_not_be_contiguous(ring):
    labels, embeddings = ring
    sampler = SAMPLERS.build("class_neighbors", 7 * labels - 3, anchors=1, classes_per_anchor=3, images_per_class=2)
    sampler.on_epoch_start(context(7 * labels - 3, embeddings))
    classes = labels[epoch(sampler)[0]]
    assert {int(classes[2]), int(classes[4])} == {(classes[0] + 1) % 6, (classes[0] - 1) % 6}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("class_neighbors", {"anchors": 4, "classes_per_anchor": 2}, "training classes, 6, not 4 x 2"),
        ("adaptive", {"wrong_factor": 0.9, "ceiling": 0.5}, r"wrong_factor: must be >= 1, not 0.9\nceiling: .* 0.5"),
        ("adaptive", {"correct_factor": 1.1}, "correct_factor"),
        ("adaptive", {"floor": 0.0}, "floor"),
    ],
)
def test_options_that_make_no_sense_are_refused(name, options, message):
    with pytest.raises(OptionError, match=message):
        SAMPLERS.build(name, labels_of([4] * 6), **options)


@pytest.mark.parametrize("name", ["adaptive", "class_neighbors"])
def test_nothing_to_sample_from_is_refused(name):
    with pytest.raises(DataError, match="no image"):
        SAMPLERS.build(name, labels_of([]))
