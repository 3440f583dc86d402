import numpy as np
import pytest

from dml_bench.data.catalog import LISTINGS, check_counts, half_of_classes, variant
from dml_bench.data.dataset import DATASETS, ImageSet, Pairs, Split
from dml_bench.data.listing import GALLERY, QUERY, TEST, TRAIN, Listing, make_split
from dml_bench.data.sources import open_source
from dml_bench.errors import DataError, OptionError


def images(labels, value=0):
    labels = np.array(labels, dtype=np.int64)
    return ImageSet(
        np.full((len(labels), 2, 2, 1), value, dtype=np.uint8), labels, tuple(map(str, range(max(labels) + 1)))
    )


@pytest.fixture
def listing(tmp_path, files):
    source = open_source(files.write(tmp_path / "set", {f"{i}.jpg": bytes(i) for i in range(6)}))
    labels = np.array([0, 0, 2, 2, 3, 3], dtype=np.int64)
    roles = np.array([TRAIN, TRAIN, QUERY, GALLERY, GALLERY, QUERY], dtype=np.int8)
    supers = np.array([7, 7, 7, 9], dtype=np.int64)
    return Listing("set", source, tuple(source.stamps), labels, roles, ("a", "b", "c", "d"), super_labels=supers)


def test_labels_are_renumbered_without_gaps(listing):
    labels, names = listing.renumbered(listing.part(TEST, QUERY, GALLERY))
    assert labels.tolist() == [0, 0, 1, 1]
    assert names == ("c", "d")


def test_queries_and_gallery_become_masks(listing):
    split = make_split(listing, images([0, 0]), images([0, 0, 1, 1]))
    assert split.query.tolist() == [True, False, False, True]
    assert split.gallery.tolist() == [False, True, True, False]


def test_an_image_that_is_query_and_gallery_is_in_both_masks(listing):
    roles = np.array([TRAIN, TRAIN, TEST, GALLERY, GALLERY, QUERY], dtype=np.int8)
    both = Listing("set", listing.source, listing.paths, listing.labels, roles, listing.class_names)
    split = make_split(both, images([0, 0]), images([0, 0, 1, 1]))
    assert split.query.tolist() == [True, False, False, True]
    assert split.gallery.tolist() == [True, True, True, False]


def test_an_image_named_twice_is_refused(listing):
    with pytest.raises(DataError, match=r"names the image '0\.jpg' twice"):
        Listing("set", listing.source, ("0.jpg",) * 6, listing.labels, listing.roles, listing.class_names)


def test_labels_of_another_length_are_refused(listing):
    with pytest.raises(DataError, match=r"labels must be \(6,\), not \(5,\)"):
        Listing("set", listing.source, listing.paths, listing.labels[1:], listing.roles, listing.class_names)


def test_the_digest_of_a_plain_split_is_that_of_its_images():
    import hashlib

    train, test = images([0, 0]), images([0, 1])
    assert Split("x", train, test).digest == hashlib.sha256(f"{train.digest}{test.digest}".encode()).hexdigest()


def test_whatever_is_another_protocol_has_another_digest():
    mask, other = np.array([True, False]), np.array([False, True])
    pairs = Pairs(np.array([0]), np.array([1]), np.array([False]), np.array([0]))
    splits = [
        Split("x", images([0, 0]), images([0, 1])),
        Split("x", images([0, 0]), images([0, 1]), variant=("partial",)),
        Split("x", images([0, 0]), images([0, 1]), variant=("boxes",)),
        Split("x", images([0, 0]), images([0, 1]), query=mask, gallery=other),
        Split("x", images([0, 0]), images([0, 1]), query=other, gallery=mask),
        Split("x", images([0, 0]), images([0, 1]), pairs=pairs),
        Split("x", images([0, 0], value=1), images([0, 1])),
    ]
    assert len({split.digest for split in splits}) == len(splits)


def test_masks_must_fit():
    mask = np.array([True, False])
    with pytest.raises(DataError, match="both queries and a gallery"):
        Split("x", images([0]), images([0, 1]), query=mask)
    with pytest.raises(DataError, match="gallery: must mark some of the 2 test images"):
        Split("x", images([0]), images([0, 1]), query=mask, gallery=~mask & mask)


@pytest.mark.parametrize(("classes", "trained"), [(4, 2), (5, 3), (50, 25), (81, 41)])
def test_the_first_half_is_the_larger_one(classes, trained):
    labels = np.repeat(np.arange(classes) * 3, 2)
    roles = half_of_classes(labels, "x")
    assert len(np.unique(labels[roles == TRAIN])) == trained
    assert labels[roles == TRAIN].max() < labels[roles == TEST].min()


def test_too_few_classes_are_refused():
    with pytest.raises(DataError, match=r"x: has 3 classes; a class-disjoint split needs 4"):
        half_of_classes(np.array([0, 1, 2]), "x")


def test_counts_must_be_the_official_ones():
    assert check_counts("x", (10, 5), (10, 5), partial=False) is False
    assert check_counts("x", (10, 5), (10, 5), partial=True) is False
    assert check_counts("x", (9, 5), (10, 5), partial=True) is True
    with pytest.raises(DataError, match=r"must hold 10 images of 5 classes, but 9 images of 5 .*'partial: true'"):
        check_counts("x", (9, 5), (10, 5), partial=False)
    with pytest.raises(DataError, match="but 11 images of 5"):
        check_counts("x", (11, 5), (10, 5), partial=True)


def test_a_variant_names_what_is_not_usual():
    assert variant(partial=True, boxes=False, split="class_disjoint", alignment="funneled") == ("partial", "funneled")
    assert variant(split="official_closed") == ("official_closed",)


def test_decoding_adds_its_options_to_every_listing():
    for entry in LISTINGS:
        own = {option.name for option in entry.options}
        all_of_them = {option.name for option in DATASETS[entry.name].options}
        assert all_of_them - own >= {"image_size"}
        assert own <= all_of_them
        if entry.name != "omniglot":  # which decodes in its own way
            assert DATASETS[entry.name].doc == entry.doc
    with pytest.raises(OptionError, match="image_size"):
        DATASETS.build("cub200", None, image_size=2)
    with pytest.raises(OptionError, match="no option 'parts'"):
        DATASETS.build("cub200", None, parts=True)
