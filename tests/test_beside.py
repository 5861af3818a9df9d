"""What limits a restored picture, and the comparison beside it."""

import cv2
import numpy as np
import pytest
from PIL import Image

from clearmark import beside

GIVEN = np.full((4, 6, 3), 100, np.uint8)
RESTORED = np.full((4, 6, 3), 200, np.uint8)


@pytest.mark.parametrize(
    ("colour", "share"),
    [
        ((255, 255, 255), 1.0),
        ((255, 0, 0), 0.299),
        ((0, 0, 255, 255), 0.114),
        ((255, 255, 255, 0), 0.0),
        ((255, 255, 255, 51), 0.2),
        ((128, 128, 128, 128), 0.252),
    ],
)
def test_a_mask_counts_by_brightness_and_transparency(colour, share, tmp_path):
    hint = np.full((4, 6, len(colour)), colour, np.uint8)
    Image.fromarray(hint).save(tmp_path / "hint.png")
    mixed = beside.limited(GIVEN, RESTORED, tmp_path / "hint.png", None)
    assert np.abs(mixed - (100 + 100 * share)).max() <= 1
    assert np.ptp(mixed) == 0  # of one colour still


def test_a_mask_of_sixteen_bits(tmp_path):
    cv2.imwrite(str(tmp_path / "hint.png"), np.full((4, 6), 32768, np.uint16))
    assert (beside.limited(GIVEN, RESTORED, tmp_path / "hint.png", None) == 150).all()


def test_a_large_comparison_is_reduced():
    shape = (1500, 4000)
    large = np.zeros((*shape, 3), np.uint8)
    large[:, 2000:] = 255
    for kind in (np.uint8, np.uint16):
        part = large if kind == np.uint8 else large.astype(np.uint16) * 257
        made = beside.side_by_side(part, part, large[..., 0]).pixels
        height, width = made.shape[0], made.shape[1] // 3
        assert (made.dtype, made.shape[1] % 3) == (np.uint8, 0)
        assert 0.99 * beside.LARGEST < height * width <= beside.LARGEST
        assert width / height == pytest.approx(shape[1] / shape[0], rel=2e-3)
        for at in range(0, 3 * width, width):
            assert made[:, at + 5].max() == 0
            assert made[:, at + width - 5].min() == 255
    thin = np.zeros((1, 2 * beside.LARGEST, 3), np.uint8)
    assert beside.side_by_side(thin, thin, None).pixels.shape[0] == 1
