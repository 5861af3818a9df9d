"""The formation model on bytes: what ``clearmark.formation`` says, to the nearest of 256 levels.

Several times faster than floats, since marks are drawn for every sample of a training. Opacities
are (H, W) uint8, 255 standing for 1; colours are (H, W, 3), or (3,) where one colour fills all.
"""

from __future__ import annotations

import cv2
import numpy as np

from clearmark.formation import blend, to_linear, to_srgb

LIGHT = to_linear(np.arange(256) / 255).astype(np.float32)
BYTES = np.rint(255 * to_srgb(np.arange(65536) / 65535)).astype(np.uint8)
"""Linear light of each of 256 levels, and the level of each of 65536 steps of linear light."""


def blended(clean: np.ndarray, opacity: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """``formation.blend`` of uint8, off by half a level at most: (H, W, 3)."""
    width = opacity.shape[1]
    share: np.ndarray = cv2.merge([opacity] * 3).astype(np.uint16)
    total = share * _rows(colour, width)  # with the next line 255 * 255 at most: fits 16 bits
    total += (255 - share) * _rows(clean, width)
    return cv2.convertScaleAbs(total, alpha=1 / 255)


def blended_in_light(clean: np.ndarray, opacity: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """``formation.blend_linear`` of uint8: (H, W, 3)."""
    light = blend(LIGHT[clean], opacity[..., None] / np.float32(255), LIGHT[colour])
    return BYTES[np.rint(light * 65535).astype(np.uint16)]


def differs(marked: np.ndarray, clean: np.ndarray, above: int) -> np.ndarray:
    """Where pictures differ by more than ``above`` (< 255), summed over channels: (H, W) bool."""
    # The sum saturates at 255; a plain `marked - clean` would wrap around.
    total = cv2.transform(cv2.absdiff(marked, clean), np.ones((1, 3), np.float32))
    return np.asarray(total > above)


def united(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """The opacity of two marks laid over each other (see ``formation.over``)."""
    return 255 - cv2.multiply(255 - upper, 255 - lower, scale=1 / 255)


def mixed(
    upper: np.ndarray, colour: np.ndarray, lower: np.ndarray, below: np.ndarray
) -> np.ndarray:
    """The colour of a mark of opacity ``upper`` and ``colour`` over another one, (H, W, 3)."""
    total = united(upper, lower)
    return blended(colour, cv2.divide(cv2.subtract(total, upper), total, scale=255), below)


def _rows(colour: np.ndarray, width: int) -> np.ndarray:
    # A row that numpy repeats is many times faster than a pixel that it repeats.
    return np.full((1, width, 3), colour) if colour.ndim == 1 else colour
