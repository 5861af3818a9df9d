"""Marks of rubber stamps: a ring or a box around a text, with worn ink."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from clearmark.watermarks.assets import MarkAssets
from clearmark.watermarks.base import Mark, Sketch
from clearmark.watermarks.text import lettering

LEVELS = np.arange(256, dtype=np.float32)


class Stamp(Mark):
    """A ring with text along it, or a box with text in it. ``size`` is its width as a share of the
    picture's shorter side.

    Args:
        ring: probability of a ring instead of a box.
        wear: largest share of the ink that is worn off.
        mark: what all marks take (see ``Mark``).
    """

    def __init__(self, ring: float = 0.5, wear: float = 0.3, **mark: Any) -> None:
        super().__init__(**mark)
        self.ring, self.wear = ring, wear

    def sketch(self, shape: tuple[int, int], assets: MarkAssets, size: float) -> Sketch:
        width = max(24, int(min(shape) * size))
        text = self.py_random.choice(assets.short(20))
        path = self.py_random.choice(assets.fonts_for(text))
        if self.py_random.random() < self.ring:
            icon = cv2.extractChannel(self.py_random.choice(assets.icons), 3)
            matte = ring(width, lettering(text, path, width * 1.6, tallest=width * 0.16), icon)
        else:
            matte = box(width, lettering(text, path, width * 0.8))
        return Sketch(self.worn(matte))

    def worn(self, matte: np.ndarray) -> np.ndarray:
        """Take ink off in blotches, up to ``wear`` of it."""
        share = self.py_random.uniform(0, self.wear)
        height, width = matte.shape
        grains = self.random_generator.random((height // 3 + 1, width // 3 + 1), np.float32)
        coarse = cv2.blur(cv2.convertScaleAbs(grains, alpha=255), (2, 2))
        left = np.clip((LEVELS / 255 - share) * 8 + 1, 0, 1) * 255
        ink = cv2.LUT(cv2.resize(coarse, (width, height)), left.astype(np.uint8))
        return cv2.multiply(matte, ink, scale=1 / 255)


def box(width: int, letters: np.ndarray) -> np.ndarray:
    """Letters in a double frame ``width`` pixels wide, or wider where they need it."""
    line = max(2, width // 40)
    inside = max(width - letters.shape[1], 0) // 2
    sides = (3 * line, 3 * line, max(inside, 3 * line), max(inside, 3 * line))
    matte = cv2.copyMakeBorder(letters, *sides, cv2.BORDER_CONSTANT)
    for thick, value in ((max(1, line // 2), 255), (line, 0), (line, 255)):
        matte = cv2.copyMakeBorder(matte, *(thick,) * 4, cv2.BORDER_CONSTANT, value=value)
    return matte


def ring(width: int, letters: np.ndarray, icon: np.ndarray) -> np.ndarray:
    """Two circles, letters bent along the band between them, an icon in the middle."""
    radius, line = width / 2, max(1, width // 50)
    band = min(letters.shape[0] + 2 * line, int(radius * 0.45))
    matte = np.zeros((width, width), np.uint8)
    centre = (int(radius), int(radius))
    for r in (radius - line, radius - band - 3 * line):
        cv2.circle(matte, centre, int(r), 255, line, cv2.LINE_AA)
    around = max(letters.shape[1], int(2 * math.pi * (radius - band / 2)))
    strip = np.zeros((int(radius), around), np.uint8)
    bottom = int(radius) - 2 * line
    rows = min(letters.shape[0], bottom)
    first = (around - letters.shape[1]) // 2
    strip[bottom - rows : bottom, first : first + letters.shape[1]] = letters[::-1][:rows]
    # warpPolar wants the angle down the rows and the radius along the columns; the text must read
    # clockwise with its foot towards the centre.
    bent = cv2.warpPolar(
        np.ascontiguousarray(strip.T),
        (width, width),
        (radius, radius),
        radius,
        cv2.WARP_INVERSE_MAP | cv2.WARP_FILL_OUTLIERS | cv2.INTER_LINEAR,
    )
    matte = np.maximum(matte, np.rot90(bent, -1))
    side = int((radius - band - 4 * line) * 1.1)
    if side >= 8:
        small = cv2.resize(icon, (side, side), interpolation=cv2.INTER_AREA)
        at = (width - side) // 2
        matte[at : at + side, at : at + side] = np.maximum(
            matte[at : at + side, at : at + side], small
        )
    return np.ascontiguousarray(matte)
