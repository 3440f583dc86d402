import numpy as np
import pytest

from dml_bench.data.dataset import ImageSet
from dml_bench.data.samplers import SAMPLERS
from dml_bench.data.subsets import SUBSETS, class_folds
from dml_bench.errors import OptionError


@pytest.fixture
def train():
    labels = np.repeat(np.arange(10), 100)
    images = np.arange(1000, dtype=np.int64).astype(np.uint8)[:, None, None, None].repeat(2, 1).repeat(2, 2)
    return ImageSet(images, labels, tuple("abcdefghij"))


def test_long_tail_falls_exponentially(train):
    counts = np.sort(SUBSETS.build("long_tail", train, factor=50.0).class_counts)[::-1]
    assert counts.tolist() == [max(1, int(100 * 50 ** (-i / 9))) for i in range(10)]


def test_step_few_shot_and_fraction(train):
    counts = SUBSETS.build("step_imbalance", train, factor=10.0, share=0.3).class_counts
    assert sorted(counts.tolist()) == [10] * 3 + [100] * 7
    assert SUBSETS.build("few_shot", train, images_per_class=7).class_counts.tolist() == [7] * 10
    part = SUBSETS.build("class_fraction", train, fraction=0.4)
    assert part.num_classes == 4 and len(part) == 400


def test_label_noise_changes_exactly_so_many_labels_to_other_classes(train):
    noisy = SUBSETS.build("label_noise", train, rate=0.3)
    assert (noisy.labels != train.labels).sum() == 300
    np.testing.assert_array_equal(noisy.images[np.arange(1000)], train.images)


def test_the_seed_decides_and_the_digest_follows(train):
    one, same, other = (SUBSETS.build("few_shot", train, images_per_class=5, seed=s) for s in (1, 1, 2))
    assert one.digest == same.digest != other.digest != train.digest


def test_folds_part_the_classes():
    labels = np.repeat(np.arange(11), 3)
    folds = class_folds(labels, 4, 0)
    assert all(len(set(folds[labels == c])) == 1 for c in range(11))
    assert sorted(np.bincount(folds[::3]).tolist()) == [2, 3, 3, 3]
    with pytest.raises(OptionError, match="number of classes"):
        class_folds(labels, 12, 0)


def test_balanced_samplers_draw_classes_as_they_say():
    labels = np.repeat([0, 1], [900, 100])
    shares = {}
    for name in ("class_balanced", "sqrt_balanced"):
        sampler = SAMPLERS.build(name, labels, batch_size=100)
        drawn = np.concatenate([b for e in range(30) for b in sampler.batches(np.random.default_rng(e))])
        shares[name] = (labels[drawn] == 1).mean()
    assert shares["class_balanced"] == pytest.approx(0.5, abs=0.02)
    assert shares["sqrt_balanced"] == pytest.approx(0.25, abs=0.02)


def test_hierarchical_batches_hold_whole_groups():
    labels, groups = np.repeat(np.arange(12), 6), np.repeat([0, 1, 2], 24)
    sampler = SAMPLERS.build(
        "hierarchical", labels, groups, groups_per_batch=2, classes_per_group=3, images_per_class=2
    )
    for batch in sampler.batches(np.random.default_rng(0)):
        assert len(batch) == len(set(batch.tolist())) == 12
        assert np.unique(groups[batch], return_counts=True)[1].tolist() == [6, 6]
        assert np.unique(labels[batch], return_counts=True)[1].tolist() == [2] * 6
    with pytest.raises(OptionError, match="super-classes"):
        SAMPLERS.build("hierarchical", labels, None)
