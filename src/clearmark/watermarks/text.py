"""Marks of text: a copyright line, an agency's name, SAMPLE, a date, an address."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from clearmark.watermarks.assets import MarkAssets, font
from clearmark.watermarks.base import Mark, Sketch

SMALLEST = 8
"""Font size in pixels below which letters are no longer letters."""


class Text(Mark):
    """A phrase in one font. ``size`` is its width as a share of the picture's width."""

    def sketch(self, shape: tuple[int, int], assets: MarkAssets) -> Sketch:
        text = self.py_random.choice(assets.phrases)
        path = self.py_random.choice(assets.fonts_for(text))
        width = shape[1] * self.py_random.uniform(*self.size)
        return Sketch(lettering(text, path, width, tallest=shape[0] * 0.3))


def lettering(text: str, path: Path, width: float, tallest: float = np.inf) -> np.ndarray:
    """The matte (h, w) uint8 of a line of text about ``width`` pixels wide.

    The letters are at most ``tallest`` and at least ``SMALLEST`` pixels high, so a very long or a
    very short line comes out wider or narrower than asked.
    """
    unit = font(path, 64).getlength(text) / 64
    size = int(max(SMALLEST, min(width / max(unit, 0.1), tallest)))
    drawn = font(path, size).getmask(text)
    matte = np.frombuffer(bytes(drawn), np.uint8).reshape(drawn.size[::-1])
    return cv2.copyMakeBorder(matte, 1, 1, 1, 1, cv2.BORDER_CONSTANT)


def stacked(upper: np.ndarray, lower: np.ndarray, gap: int) -> np.ndarray:
    """One matte above another, both centred."""
    width = max(upper.shape[1], lower.shape[1])
    return np.vstack([_wide(upper, width), np.zeros((gap, width), np.uint8), _wide(lower, width)])


def beside(left: np.ndarray, right: np.ndarray, gap: int) -> np.ndarray:
    """One matte to the left of another, both centred."""
    return np.ascontiguousarray(stacked(left.T, right.T, gap).T)


def _wide(matte: np.ndarray, width: int) -> np.ndarray:
    room = width - matte.shape[1]
    return cv2.copyMakeBorder(matte, 0, 0, room // 2, room - room // 2, cv2.BORDER_CONSTANT)
