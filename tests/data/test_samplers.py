import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dml_bench.data.samplers import SAMPLERS
from dml_bench.errors import DataError, OptionError

sizes = st.lists(st.integers(1, 9), min_size=1, max_size=12)


def labels_of(counts, seed=0):
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(seed).permutation(labels).astype(np.int64)


def epoch(sampler, seed=0):
    return list(sampler.batches(np.random.default_rng(seed)))


def test_both_samplers_are_registered_with_their_options():
    options = {name: [(o.name, o.default) for o in SAMPLERS[name].options] for name in ("random", "pxk")}
    assert options == {
        "random": [("batch_size", 64), ("drop_last", True)],
        "pxk": [("classes_per_batch", 16), ("images_per_class", 4)],
    }


@given(images=st.integers(1, 60), batch_size=st.integers(1, 70))
def test_random_sees_no_image_twice_and_drops_less_than_a_batch(images, batch_size):
    sampler = SAMPLERS.build("random", np.zeros(images, dtype=np.int64), batch_size=batch_size)
    batches = epoch(sampler)
    seen = np.concatenate(batches)
    assert len(batches) == len(sampler)
    assert len(set(seen.tolist())) == len(seen)
    assert set(seen.tolist()) <= set(range(images))
    assert all(batch.dtype == np.int64 and len(batch) == min(batch_size, images) for batch in batches)
    assert images - len(seen) < batch_size


def longest_epoch(groups, classes_per_batch):
    """The most batches of distinct classes, by trying every length."""
    lengths = range(1, sum(groups) // classes_per_batch + 1)
    return max(t for t in lengths if sum(min(g, t) for g in groups) >= classes_per_batch * t)


@given(counts=sizes, data=st.data(), k=st.integers(1, 5), seed=st.integers(0, 99))
def test_pxk_batches_hold_p_classes_of_k_images_and_no_batch_more_would_fit(counts, data, k, seed):
    p = data.draw(st.integers(1, len(counts)))
    labels = labels_of(counts, seed)
    sampler = SAMPLERS.build("pxk", labels, classes_per_batch=p, images_per_class=k)
    batches = epoch(sampler, seed)
    assert len(batches) == len(sampler) == longest_epoch([max(1, n // k) for n in counts], p)
    for batch in batches:
        classes, drawn = np.unique(labels[batch], return_counts=True)
        assert batch.dtype == np.int64
        assert len(classes) == p
        assert (drawn == k).all()
    times = np.bincount(np.concatenate(batches), minlength=len(labels))
    for c, n in enumerate(counts):
        most = 1 if n >= k else -(-k // n)
        assert times[labels == c].max() <= most


def test_pxk_shows_every_image_once_when_the_numbers_divide():
    labels = labels_of([8] * 6)
    batches = epoch(SAMPLERS.build("pxk", labels, classes_per_batch=3, images_per_class=4))
    assert sorted(np.concatenate(batches).tolist()) == list(range(48))


def test_pxk_fills_a_small_class_with_repeats_of_all_its_images():
    labels = np.array([0, 0, 1, 1, 1, 1], dtype=np.int64)
    (batch,) = epoch(SAMPLERS.build("pxk", labels, classes_per_batch=2, images_per_class=4))
    assert sorted(batch.tolist()) == [0, 0, 1, 1, 2, 3, 4, 5]


def test_pxk_leaves_other_images_out_each_epoch():
    labels = labels_of([7] * 4)
    sampler = SAMPLERS.build("pxk", labels, classes_per_batch=4, images_per_class=5)
    rng = np.random.default_rng(0)
    seen = [set(np.concatenate(list(sampler.batches(rng))).tolist()) for _ in range(20)]
    assert len(set(map(frozenset, seen))) > 1
    assert set.union(*seen) == set(range(28))


def test_pxk_mixes_classes_instead_of_pairing_the_same_ones():
    sampler = SAMPLERS.build("pxk", labels_of([8] * 40), classes_per_batch=4, images_per_class=2)
    labels = labels_of([8] * 40)
    partners = {c for batch in epoch(sampler) for c in labels[batch] if 0 in labels[batch]} - {0}
    assert len(partners) >= 9  # of at most 12 in four batches


@pytest.mark.parametrize("name", ["random", "pxk"])
def test_the_generator_decides_the_batches(name):
    sampler = SAMPLERS.build(name, labels_of([9] * 20))
    first, again, other = (np.stack(epoch(sampler, seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_labels_need_not_be_contiguous():
    labels = np.array([-7, 30, -7, 30, 5, 5], dtype=np.int64)
    batches = epoch(SAMPLERS.build("pxk", labels, classes_per_batch=3, images_per_class=2))
    assert sorted(np.concatenate(batches).tolist()) == list(range(6))


def test_coverage_counts_what_an_epoch_leaves_out():
    labels = labels_of([5] * 20)
    assert SAMPLERS.build("random", labels).coverage == "an epoch draws 64 images of 100 and leaves 36 out"
    assert SAMPLERS.build("random", labels, batch_size=50).coverage == "an epoch draws 100 images of 100"
    assert SAMPLERS.build("pxk", labels).coverage == "an epoch draws 64 images of 100 and leaves 36 out"
    small = SAMPLERS.build("pxk", labels_of([1, 3, 4]), classes_per_batch=3)
    assert small.coverage.endswith("2 classes have fewer than 4 images and repeat them")


def test_too_many_classes_per_batch_is_refused_with_both_numbers():
    with pytest.raises(OptionError, match="classes_per_batch: .* 5, not 16"):
        SAMPLERS.build("pxk", labels_of([4] * 5))


@pytest.mark.parametrize("name", ["random", "pxk"])
def test_no_images_is_refused(name):
    with pytest.raises(DataError, match="no image"):
        SAMPLERS.build(name, np.array([], dtype=np.int64))


def test_an_incomplete_last_batch_is_kept_if_asked_for():
    sampler = SAMPLERS.build("random", labels_of([10]), batch_size=4, drop_last=False)
    drawn = list(sampler.batches(np.random.default_rng(0)))
    assert [len(batch) for batch in drawn] == [4, 4, 2] and len(sampler) == 3
    assert sorted(np.concatenate(drawn).tolist()) == list(range(10))
    assert len(SAMPLERS.build("random", labels_of([8]), batch_size=4, drop_last=False)) == 2


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": 1.5}, {"batchsize": 3}])
def test_wrong_options_are_refused(options):
    with pytest.raises(OptionError, match="batch"):
        SAMPLERS.build("random", labels_of([4]), **options)
