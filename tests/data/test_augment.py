import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from dml_bench.data.augment import augment, finish, random_affine, to_float
from dml_bench.recipe.schema import Augmentation

ALL = Augmentation(crop_padding=2, rotation=20.0, scale=0.2, shear=10.0, flip=True)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n=32, channels=1, height=12, width=12, seed=0):
    return torch.rand(n, channels, height, width, generator=generator(seed), dtype=torch.float64)


def test_to_float_scales_to_one_and_puts_channels_first():
    images = torch.randint(0, 256, (3, 4, 5, 3), dtype=torch.uint8, generator=generator())
    floats = to_float(images)
    assert floats.dtype == torch.float32
    np.testing.assert_allclose(floats.numpy(), np.moveaxis(images.numpy(), 3, 1) / 255, rtol=1e-6)


def test_all_off_changes_nothing_at_all():
    images = pictures()
    assert augment(images, Augmentation(), generator()) is images


@pytest.mark.parametrize("channels", [1, 3])
def test_shape_type_and_range_are_kept(channels):
    images = pictures(channels=channels, height=10, width=14).float()
    changed = augment(images, ALL, generator())
    assert changed.shape == images.shape
    assert changed.dtype == images.dtype
    assert changed.min() >= 0
    assert changed.max() <= 1 + 1e-6
    assert (changed != images).any()


def test_the_generator_decides_everything():
    images = pictures()
    first, again, other = (augment(images, ALL, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_crop_padding_shifts_by_whole_pixels_and_brings_in_black():
    images = pictures(n=200, height=7, width=9)
    shifts = set()
    for image, changed in zip(images, augment(images, Augmentation(crop_padding=2), generator()), strict=True):
        padded = torch.nn.functional.pad(image, (2, 2, 2, 2))
        windows = {(y, x): padded[:, y : y + 7, x : x + 9] for y in range(5) for x in range(5)}
        (match,) = [at for at, window in windows.items() if torch.allclose(window, changed, atol=1e-9)]
        shifts.add(match)
    assert len(shifts) == 25


def test_flip_mirrors_about_half_of_the_images():
    images = pictures(n=400)
    changed = augment(images, Augmentation(flip=True), generator())
    mirrored = [torch.allclose(c, i.flip(2), atol=1e-9) for c, i in zip(changed, images, strict=True)]
    kept = [torch.allclose(c, i, atol=1e-9) for c, i in zip(changed, images, strict=True)]
    assert all(m != k for m, k in zip(mirrored, kept, strict=True))
    assert 150 < sum(mirrored) < 250


@pytest.mark.parametrize(("height", "width"), [(21, 21), (16, 29)])
def test_rotation_is_a_rotation_in_pixels_whatever_the_aspect(height, width):
    image = torch.from_numpy(ndimage.gaussian_filter(np.random.default_rng(0).random((height, width)), 1))
    draws = torch.tensor([[1.0, 0.5, 0.5, 0.9, 0.5, 0.5]], dtype=torch.float64)
    theta = random_affine(draws, Augmentation(rotation=30.0), height, width)
    grid = torch.nn.functional.affine_grid(theta, [1, 1, height, width], align_corners=False)
    ours = torch.nn.functional.grid_sample(image[None, None], grid, align_corners=False)[0, 0].numpy()
    angle = np.radians(30)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # rows (y, x)
    centre = (np.array([height, width]) - 1) / 2
    theirs = ndimage.affine_transform(image.numpy(), matrix, centre - matrix @ centre, order=1)
    inside = ndimage.affine_transform(np.ones((height, width)), matrix, centre - matrix @ centre, order=1) > 0.99
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=1e-6)
    assert inside.sum() > 100


@pytest.mark.parametrize(("draw", "zoom"), [(0.0, 0.8), (0.5, 1.0), (1.0, 1.2)])
def test_scale_magnifies_by_one_minus_to_one_plus_the_fraction(draw, zoom):
    draws = torch.full((1, 6), 0.5, dtype=torch.float64)
    draws[0, 2] = draw
    theta = random_affine(draws, Augmentation(scale=0.2), 8, 8)
    np.testing.assert_allclose(theta[0].numpy(), [[1 / zoom, 0, 0], [0, 1 / zoom, 0]], atol=1e-12)


def test_shear_slants_upright_lines_by_the_angle():
    draws = torch.full((1, 6), 0.5, dtype=torch.float64)
    draws[0, 1] = 1.0
    theta = random_affine(draws, Augmentation(shear=45.0), 8, 16)
    np.testing.assert_allclose(theta[0].numpy(), [[1, 0.5, 0], [0, 1, 0]], atol=1e-12)  # 8 pixels are half of 16


@given(height=st.integers(4, 20), width=st.integers(4, 20), seed=st.integers(0, 999))
def test_the_middle_stays_in_the_middle_without_shift(height, width, seed):
    draws = torch.rand(5, 6, generator=generator(seed), dtype=torch.float64)
    theta = random_affine(draws, Augmentation(rotation=180.0, scale=0.9, shear=45.0, flip=True), height, width)
    assert torch.equal(theta[:, :, 2], torch.zeros(5, 2, dtype=torch.float64))
    assert (torch.linalg.det(theta[:, :, :2]).abs() >= 1 / 1.9**2 - 1e-9).all()


def test_switching_one_setting_on_leaves_the_draws_of_others_alone():
    images = pictures()
    generators = generator(), generator(), generator()
    for settings, source in zip((Augmentation(), Augmentation(rotation=5.0), ALL), generators, strict=True):
        augment(images, settings, source)
    assert len({tuple(source.get_state().tolist()) for source in generators}) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_generator_gives_the_same_images_on_a_gpu():
    images = pictures().float()
    there = augment(images.cuda(), ALL, generator()).cpu()
    torch.testing.assert_close(there, augment(images, ALL, generator()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("settings", [Augmentation(), Augmentation(flip=True), ALL])
def test_bytes_are_finished_as_floats_are_augmented(settings):
    images = torch.randint(0, 256, (32, 12, 10, 3), dtype=torch.uint8, generator=generator())
    ours, theirs = generator(1), generator(1)
    expected = augment(to_float(images), settings, theirs)
    assert torch.equal(finish(images.clone(), settings, ours), expected)
    assert torch.equal(ours.get_state(), theirs.get_state())


def test_to_float_divides_every_level_as_torch_does():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1)
    floats = to_float(levels)
    assert torch.equal(floats.flatten(), levels.flatten().float() / 255)
    assert to_float(levels.expand(2, -1, -1, 3)).permute(0, 2, 3, 1).is_contiguous()  # channels last
