import colorsys

import numpy as np
import torch
from scipy import ndimage

from dml_bench.data.colors import blur, recolor, shift_hue
from dml_bench.recipe.schema import Augmentation


def pictures(n=6, channels=3, side=16):
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_hue_turns_as_in_the_standard_library():
    images, turns = pictures(2), torch.tensor([0.3, -0.2], dtype=torch.float64)[:, None, None]
    ours = shift_hue(images, turns)
    for image, turned, turn in zip(images, ours, (0.3, -0.2), strict=True):
        for y, x in ((0, 0), (3, 7), (15, 2)):
            h, s, v = colorsys.rgb_to_hsv(*image[:, y, x].tolist())
            np.testing.assert_allclose(turned[:, y, x], colorsys.hsv_to_rgb((h + turn) % 1, s, v), atol=1e-9)


def test_blur_is_scipys():
    images, deviations = pictures(3), torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64)
    ours = blur(images, deviations, 1.5)
    for image, blurred, deviation in zip(images, ours, deviations.tolist(), strict=True):
        theirs = ndimage.gaussian_filter(image.numpy(), (0, deviation, deviation), mode="mirror", radius=5)
        np.testing.assert_allclose(blurred, theirs, atol=1e-9)


def test_images_stay_in_range_and_the_generator_moves_alike():
    states = []
    for settings in (Augmentation(), Augmentation(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, blur=1.0)):
        generator = torch.Generator().manual_seed(0)
        changed = recolor(pictures(), settings, generator)
        assert changed.min() >= 0 and changed.max() <= 1 + 1e-9
        states.append(tuple(generator.get_state().tolist()))
    assert states[0] == states[1]
