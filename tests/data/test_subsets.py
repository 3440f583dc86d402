import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from dml_bench.data.dataset import ImageSet, Split
from dml_bench.data.samplers import SAMPLERS
from dml_bench.data.subsets import SUBSETS, with_subsets
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


SUBSET_OPTIONS = {
    "long_tail": {"factor": 20.0},
    "step_imbalance": {"factor": 5.0},
    "few_shot": {"images_per_class": 3},
    "class_fraction": {"fraction": 0.5},
    "label_noise": {"rate": 0.4},
}


def test_long_tail_has_the_counts_of_the_published_cifar10_lt():
    """Imbalance 100: the numbers that Cao et al., LDAM, NeurIPS 2019, and those after it print."""
    train = ImageSet(np.zeros((50_000, 1, 1, 1), np.uint8), np.repeat(np.arange(10), 5000), tuple("abcdefghij"))
    counts = np.sort(SUBSETS.build("long_tail", train, factor=100.0).class_counts)[::-1]
    assert counts.tolist() == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]


def test_a_share_of_classes_is_counted_exactly():
    """0.29 of 100 is 29, though 0.29 * 100 is 28.999999999999996."""
    train = ImageSet(np.zeros((400, 1, 1, 1), np.uint8), np.repeat(np.arange(100), 4), tuple(map(str, range(100))))
    assert (SUBSETS.build("step_imbalance", train, factor=4.0, share=0.29).class_counts == 1).sum() == 29


@pytest.mark.parametrize("rate", [0.0, 0.125, 0.4, 0.9])
def test_noise_has_its_exact_rate_and_every_other_class_is_as_likely(rate):
    train = ImageSet(np.zeros((8000, 1, 1, 1), np.uint8), np.repeat(np.arange(4), 2000), tuple("abcd"))
    noisy = SUBSETS.build("label_noise", train, rate=rate)
    table = np.zeros((4, 4), int)
    np.add.at(table, (train.labels, noisy.labels), 1)
    wrong = table[~np.eye(4, dtype=bool)]
    assert wrong.sum() == rate * 8000
    expected = rate * 8000 / 12
    assert (np.abs(wrong - expected) < 5 * np.sqrt(expected) + 1).all()


def test_noise_that_would_empty_a_class_is_refused(train):
    assert (SUBSETS.build("label_noise", train, rate=0.99).labels != train.labels).sum() == 990
    with pytest.raises(OptionError, match=r"rate: must be at most 0\.99, .* not 0\.995"):
        SUBSETS.build("label_noise", train, rate=0.995)


def test_a_wrong_label_brings_its_own_super_class(train):
    grouped = replace(train, groups=train.labels // 5)
    noisy = SUBSETS.build("label_noise", grouped, rate=0.5)
    assert noisy.groups.tolist() == (noisy.labels // 5).tolist()


def test_no_subset_touches_the_test_images(train):
    test = replace(train, class_names=tuple("klmnopqrst"))
    split = Split("set", train, test)
    for name, options in SUBSET_OPTIONS.items():
        assert with_subsets(split, [{"name": name, "seed": 0, **options}]) is not train
    assert split.test is test and (test.class_counts == 100).all()


def test_subsets_are_the_same_in_every_process(train):
    """Digests, in a process with another hash seed, of sets of the same images."""
    code = """
import numpy as np
from dml_bench.data.dataset import ImageSet
from dml_bench.data.subsets import SUBSETS
labels = np.repeat(np.arange(10), 100)
images = np.arange(1000, dtype=np.int64).astype(np.uint8)[:, None, None, None].repeat(2, 1).repeat(2, 2)
train = ImageSet(images, labels, tuple("abcdefghij"))
for name, options in OPTIONS.items():
    print(SUBSETS.build(name, train, seed=3, **options).digest)
""".replace("OPTIONS", repr(SUBSET_OPTIONS))
    environment = {**os.environ, "PYTHONHASHSEED": "4711"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    ours = [SUBSETS.build(name, train, seed=3, **options).digest for name, options in SUBSET_OPTIONS.items()]
    assert done.stdout.split() == ours


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
