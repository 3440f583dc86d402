import numpy as np
import pytest
import torch
from PIL import Image

from dml_bench.data.crops import crop_boxes, cut, hand_over
from dml_bench.errors import DataError
from dml_bench.recipe.schema import Augmentation

CPU = torch.device("cpu")
RESIZED = Augmentation(crop="resized")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def photos(n=12):
    rng = np.random.default_rng(0)
    shapes = [(40 + 3 * i, 90 - 4 * i, 3) for i in range(n)]
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]


def sizes_of(images):
    return torch.tensor([image.shape[:2] for image in images])


def test_boxes_lie_inside_and_cover_the_allowed_areas_and_ratios():
    sizes = torch.tensor([[375, 500]]).repeat(4000, 1)
    top, left, h, w = crop_boxes(sizes, RESIZED, 224, generator()).unbind(1)
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + h <= 375).all() and (left + w <= 500).all()
    area, ratio = (h * w).double() / (375 * 500), w.double() / h
    assert 0.079 < area.min() < 0.1 and 0.9 < area.max() <= 1
    assert 0.74 < ratio.min() < 0.77 and 1.3 < ratio.max() < 1.35
    rng, plain = np.random.default_rng(0), []
    while len(plain) < 4000:  # torchvision's loop
        target, aspect = 375 * 500 * rng.uniform(0.08, 1), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        width, height = round((target * aspect) ** 0.5), round((target / aspect) ** 0.5)
        if width <= 500 and height <= 375:
            plain.append((width * height / (375 * 500), width / height))
    expected = np.array(plain)
    assert area.mean().item() == pytest.approx(expected[:, 0].mean(), abs=0.015)
    assert ratio.mean().item() == pytest.approx(expected[:, 1].mean(), abs=0.015)


def test_a_photo_in_which_no_try_fits_is_cut_at_the_centre():
    boxes = crop_boxes(
        torch.tensor([[10, 1000], [1000, 10]]), Augmentation(crop="resized", crop_scale=[1.0, 1.0]), 8, generator()
    )
    assert boxes.tolist() == [[0, 493, 10, 13], [493, 0, 13, 10]]


@pytest.mark.parametrize("channels", [1, 3])
def test_equals_pillow_on_the_same_box(channels):
    images = [image[:, :, :channels] for image in photos()]
    boxes = crop_boxes(sizes_of(images), RESIZED, 24, generator())
    ours = cut(images, boxes, 24, CPU).numpy().astype(int)
    for image, (top, left, h, w), out in zip(images, boxes.tolist(), ours, strict=True):
        picture = Image.fromarray(image[top : top + h, left : left + w].squeeze())
        theirs = np.asarray(picture.resize((24, 24), Image.Resampling.BILINEAR)).reshape(24, 24, channels)
        assert np.abs(out - theirs.astype(int)).max() <= 1


def test_the_number_of_threads_changes_nothing():
    images = photos()
    boxes = crop_boxes(sizes_of(images), RESIZED, 24, generator())
    assert torch.equal(cut(images, boxes, 24, CPU, 1), cut(images, boxes, 24, CPU, 3))


def test_a_plain_crop_is_cut_out_untouched():
    images = photos()
    boxes = crop_boxes(sizes_of(images), Augmentation(crop="random"), 24, generator())
    for image, (top, left, h, w), out in zip(images, boxes.tolist(), cut(images, boxes, 24, CPU), strict=True):
        assert (h, w) == (24, 24)
        np.testing.assert_array_equal(out.numpy(), image[top : top + 24, left : left + 24])


def test_a_photo_too_small_for_a_plain_crop_is_an_error():
    with pytest.raises(DataError, match="only 20 on its short side"):
        crop_boxes(torch.tensor([[20, 50]]), Augmentation(crop="random"), 24, generator())


def test_what_is_handed_over_is_every_pixel_in_order():
    images = photos()
    flat, shapes = hand_over(images, CPU)
    assert shapes == [image.shape for image in images]
    np.testing.assert_array_equal(flat.numpy(), np.concatenate([image.ravel() for image in images]))


def test_photos_of_a_read_only_map_are_cut_without_a_warning():
    (photo,) = photos(1)
    photo.setflags(write=False)
    whole = torch.tensor([[0, 0, *photo.shape[:2]]])
    assert cut([photo], whole, 20, CPU).shape == (1, 20, 20, 3)
